import { readFile } from "node:fs/promises";
import type * as onnx from "onnxruntime-node";
import { configurationError } from "../../errors.js";
import { readBertConfig } from "./bert-config.js";
import { buildBertGraph, INPUT_IDS, LENGTHS, SENTENCE_EMBEDDING, WEIGHTS_LOCATION } from "./graph.js";
import { unknownPooling } from "./manifest.js";
import type { ModelSource } from "./manifest.js";
import type { ModelOptions } from "./messages.js";
import { importNative } from "./native-library.js";
import { poolAndNormalize } from "./pooling.js";
import { readTensorTable } from "./safetensors.js";

/** Vectors of texts, or else of tokens. Any other output, such as `logits`, is no embedding. */
const OUTPUTS = ["sentence_embedding", "last_hidden_state", "token_embeddings"];

/** A loaded model. `run` blocks the calling thread until the vectors are ready. */
export interface ModelSession {
  /** @param ids [lengths.length, length], padded @returns [lengths.length, dimensions] */
  run(ids: Int32Array, lengths: Int32Array, length: number): Promise<Float32Array>;
  close(): Promise<void>;
}

/** Below this level, ONNX Runtime also writes its exceptions to stderr. */
const LOG_SEVERITY_FATAL = 4;

type OnnxRuntime = typeof onnx;

/** @throws EmbeddError `configuration` when the files are not a supported model, or ONNX Runtime cannot be loaded */
export async function loadModelSession(options: ModelOptions): Promise<ModelSession> {
  const runtime = await importNative("onnxruntime-node", () => import("onnxruntime-node"));
  const { source } = options;
  return source.kind === "onnx"
    ? openOnnxFile(runtime, source, options)
    : buildSession(runtime, source, options);
}

function sessionOptions({ threads }: ModelOptions): onnx.InferenceSession.SessionOptions {
  return {
    executionProviders: ["cpu"],
    intraOpNumThreads: threads,
    // The arena never shrinks below its peak, and is no faster here (18.3 texts per CPU second without it,
    // 17.7 with it: 48 texts, 8 alternating runs).
    enableCpuMemArena: false,
    logSeverityLevel: LOG_SEVERITY_FATAL,
  };
}

async function buildSession(
  { InferenceSession, Tensor }: OnnxRuntime,
  source: { weightsPath: string; configPath: string },
  options: ModelOptions,
): Promise<ModelSession> {
  const config = readBertConfig(source.configPath);
  const graph = buildBertGraph(config, await readTensorTable(source.weightsPath));
  const session = await InferenceSession.create(graph, {
    ...sessionOptions(options),
    // Folds constants without fusing operators.
    graphOptimizationLevel: "basic",
    // Passed as bytes, because ONNX Runtime refuses symlinks and paths outside the model's directory.
    externalData: [{ path: WEIGHTS_LOCATION, data: await readFile(source.weightsPath) }],
  });
  return {
    run: async (ids, lengths, length) => {
      const outputs = await session.run({
        [INPUT_IDS]: new Tensor("int32", ids, [lengths.length, length]),
        [LENGTHS]: new Tensor("int32", lengths, [lengths.length]),
      });
      return floatsOf(outputs[SENTENCE_EMBEDDING]);
    },
    close: () => session.release(),
  };
}

/**
 * Opens a model exported by `optimum`. Inputs: int64 `input_ids`, `attention_mask` and optionally
 * `token_type_ids`. Output: vectors [rows, dimensions], or token vectors [rows, length, dimensions].
 */
async function openOnnxFile(
  { InferenceSession, Tensor }: OnnxRuntime,
  { path, pooling, root }: Extract<ModelSource, { kind: "onnx" }>,
  options: ModelOptions,
): Promise<ModelSession> {
  const session = await InferenceSession.create(path, sessionOptions(options));
  const known = new Set(["input_ids", "attention_mask", "token_type_ids"]);
  const unknown = session.inputNames.filter((name) => !known.has(name));
  if (unknown.length > 0) {
    throw configurationError(
      "model_config",
      `${path} has inputs that embedd does not support: ${unknown.join()}`,
    );
  }
  const output = OUTPUTS.find((name) => session.outputNames.includes(name));
  if (output === undefined) {
    const found = session.outputNames.join(", ");
    throw configurationError(
      "model_config",
      `${path} has none of the outputs ${OUTPUTS.join(", ")}, only ${found}`,
    );
  }
  return {
    run: async (ids, lengths, length) => {
      const shape = [lengths.length, length];
      const inputs: Record<string, () => BigInt64Array> = {
        input_ids: () => BigInt64Array.from(ids, BigInt),
        attention_mask: () => attentionMask(lengths, length),
        token_type_ids: () => new BigInt64Array(ids.length),
      };
      const feeds: Record<string, onnx.Tensor> = {};
      for (const name of session.inputNames) {
        const values = inputs[name];
        if (values) feeds[name] = new Tensor("int64", values(), shape);
      }
      const tensor = (await session.run(feeds, [output]))[output];
      if (tensor?.dims.length === 3 && pooling === null) throw unknownPooling(root);
      return poolAndNormalize(floatsOf(tensor), tensor?.dims ?? [], lengths);
    },
    close: () => session.release(),
  };
}

function attentionMask(lengths: Int32Array, length: number): BigInt64Array {
  const mask = new BigInt64Array(lengths.length * length);
  lengths.forEach((tokens, row) => mask.fill(1n, row * length, row * length + tokens));
  return mask;
}

function floatsOf(tensor: onnx.InferenceSession.OnnxValueMapType[string] | undefined): Float32Array {
  if (tensor?.data instanceof Float32Array) return tensor.data;
  throw configurationError("model_config", "the model's output is not float32");
}
