import { setTimeout as sleep } from "node:timers/promises";
import type { Provider } from "#embedd/providers/provider.js";
import { hashVector } from "./hash-vector.mjs";

export { hashVector };

/** A provider without a model: instant, and each vector identifies its text. `texts` is what it embedded. */
export function hashProvider(
  options: { dimensions?: number; model?: string } = {},
): Provider & { texts: string[] } {
  const { dimensions = 384, model = "hash" } = options;
  const texts: string[] = [];
  return {
    model,
    dimensions,
    concurrency: 2,
    maxBatchRows: 2_048,
    usdPerMillionTokens: 0,
    supportsDimensions: (asked) => asked === dimensions,
    countTokens: (batch) => Promise.resolve(batch.map((text) => text.split(/\s+/).length)),
    texts,
    embed(batch) {
      texts.push(...batch);
      return Promise.resolve(batch.map((text) => hashVector(text, dimensions)));
    },
    close: () => Promise.resolve(),
  };
}

/** A provider whose calls wait until the test releases them. */
export function heldProvider(inner: Provider) {
  let started: (texts: readonly string[]) => void = () => undefined;
  let release: () => void = () => undefined;
  let gate: Promise<void> = Promise.resolve();
  const provider: Provider = {
    ...inner,
    async embed(texts, options) {
      started(texts);
      await gate;
      return inner.embed(texts, options);
    },
  };
  return {
    provider,
    /** Makes calls wait from now on; resolves with the texts of the first one. */
    hold(): Promise<readonly string[]> {
      gate = new Promise((resolve) => (release = resolve));
      return new Promise((resolve) => (started = resolve));
    },
    release(): void {
      release();
      gate = Promise.resolve();
    },
  };
}

/** A provider whose calls take `ms` each, so that something can happen meanwhile; an abort ends them at once. */
export function slowProvider(ms: number, inner = hashProvider()): Provider & { texts: string[] } {
  return {
    ...inner,
    async embed(texts, options = {}) {
      // An aborted timer has an error of its own.
      await sleep(ms, undefined, { signal: options.signal }).catch(() => options.signal?.throwIfAborted());
      return inner.embed(texts, options);
    },
  };
}

/** A provider that reports 10 tokens per text and one request per call, as an API would. */
export function paidProvider(options: { usdPerMillionTokens?: number | null; model?: string } = {}) {
  const { usdPerMillionTokens = 100_000, model = "paid" } = options;
  const inner = hashProvider({ model });
  const provider: Provider & { texts: string[] } = {
    ...inner,
    usdPerMillionTokens,
    async embed(texts, { meter } = {}) {
      const tokens = 10 * texts.length;
      const reservation = await meter?.reserve(tokens);
      reservation?.settle({ requests: 1, tokens });
      return inner.embed(texts);
    },
  };
  return provider;
}

export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] ?? 0, b[i] ?? 0];
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  return dot / Math.sqrt(aa * bb);
}

/** A vector as pgvector prints it. */
export function parseVector(text: string): number[] {
  return JSON.parse(text) as number[];
}
