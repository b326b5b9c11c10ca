import { createHash } from "node:crypto";
import type { Pool } from "pg";
import type { Pipeline } from "../../database/pipeline.js";
import { messageOf } from "../../errors.js";
import type { Logger } from "../../logger.js";
import type { Embedded } from "./isolate-refused.js";
import {
  ROW_OVERHEAD_BYTES,
  cacheVectors,
  evictLeastUsed,
  excessBytes,
  findCached,
  touchCached,
} from "./vector-cache.sql.js";

/**
 * Text that a model embedded before reuses its cached vector, in any row or table of the same owner: reloading a table
 * costs no model time. Of others' texts an owner would learn by the time that a vector takes. The cache is never the source of truth: if it fails, texts are computed and no batch fails.
 */
export interface Reuse {
  embed(pipeline: Pipeline, model: string, texts: readonly string[], options: ReuseOptions): Promise<Reused>;
}

export interface ReuseOptions {
  compute: (texts: readonly string[]) => Promise<Embedded[]>;
  /** At most this many texts are computed. */
  maxComputed: number;
  /** The provider's. */
  reading?: string | undefined;
}

export interface Reused {
  /** One per text; undefined for texts beyond `maxComputed`. */
  results: (Embedded | undefined)[];
  /** How many texts the model embedded. */
  computed: number;
  /** Caches what was computed. It can run while the rows are written. Never rejects. */
  cache: () => Promise<void>;
}

/** Computes every text. */
export const noReuse: Reuse = {
  async embed(_pipeline, _model, texts, { compute }) {
    const results = texts.length === 0 ? [] : await compute(texts);
    return { results, computed: texts.length, cache: () => Promise.resolve() };
  },
};

/** The length keeps one reading and its text from looking like another's. */
function hashText(text: string, reading = ""): string {
  return createHash("sha256").update(`${reading.length} ${reading}`).update(text).digest("hex");
}

/** After a fault the cache is not used for this long. */
const FAULT_MS = 30_000;
/** The cache's size is measured each time this share of its limit has been written. */
const MEASURE_SHARE = 1 / 16;

export function createReuse(pool: Pool, { maxBytes, log }: { maxBytes: number; log: Logger }): Reuse {
  let faultUntil = 0;
  let faults = 0;
  let unmeasuredBytes = Infinity;
  let excess = 0;

  async function attempt<T>(work: () => Promise<T>, otherwise: T): Promise<T> {
    if (performance.now() < faultUntil) return otherwise;
    try {
      return await work();
    } catch (error) {
      faultUntil = performance.now() + FAULT_MS;
      log[faults++ === 0 ? "warn" : "debug"](
        { cause: messageOf(error) },
        "the vector cache is unavailable, computing all texts",
      );
      return otherwise;
    }
  }

  /** Evicts twice the bytes written until the excess is gone, so that no batch waits long. */
  async function evict(bytes: number): Promise<void> {
    unmeasuredBytes += bytes;
    if (unmeasuredBytes >= maxBytes * MEASURE_SHARE) {
      unmeasuredBytes = 0;
      excess = await excessBytes(pool, maxBytes);
    }
    // Subtracted before the eviction, because other batches do the same at the same time.
    const share = Math.min(excess, 2 * bytes);
    excess -= share;
    if (share > 0) await evictLeastUsed(pool, share);
  }

  return {
    async embed(pipeline, model, texts, { compute, maxComputed, reading }) {
      const space = { model, dimensions: pipeline.dimensions };
      const hashes = texts.map((text) => hashText(text, reading));
      const wanted = [...new Set(hashes)];
      const none = { vectors: new Map<string, Float32Array>(), aged: [] as string[] };
      const { vectors, aged } =
        wanted.length === 0 ? none : await attempt(() => findCached(pool, pipeline, space, wanted), none);
      const missing = new Map<string, string>();
      texts.forEach((text, i) => {
        const hash = hashes[i] ?? "";
        if (!vectors.has(hash) && missing.size < maxComputed) missing.set(hash, text);
      });
      const answers = missing.size === 0 ? [] : await compute([...missing.values()]);
      const computed = new Map([...missing.keys()].map((hash, i) => [hash, answers[i]]));
      return {
        results: hashes.map((hash) => {
          const embedding = vectors.get(hash);
          return embedding === undefined ? computed.get(hash) : { embedding };
        }),
        computed: missing.size,
        cache: () =>
          attempt(async () => {
            const fresh = [...computed]
              .flatMap(([hash, answer]) =>
                answer !== undefined && "embedding" in answer ? [{ hash, embedding: answer.embedding }] : [],
              )
              .sort((a, b) => (a.hash < b.hash ? -1 : 1));
            if (fresh.length > 0) {
              await cacheVectors(pool, pipeline, space, fresh);
              await evict(fresh.length * (4 * space.dimensions + ROW_OVERHEAD_BYTES));
            }
            if (aged.length > 0) await touchCached(pool, pipeline, space, aged);
          }, undefined),
      };
    },
  };
}
