import { createHash } from "node:crypto";
import type { Pool } from "pg";
import { messageOf } from "../../errors.js";
import type { Logger } from "../../logger.js";
import {
  ROW_OVERHEAD_BYTES,
  dropLeastUsed,
  excessBytes,
  findKept,
  keepVectors,
  touchKept,
} from "./kept-vectors.sql.js";
import type { Pipeline } from "../../database/pipeline.js";
import type { Embedded } from "./isolate-refused.js";

/**
 * Texts that a model has embedded before take the vector that it made then, in whichever row or table they
 * come back: a reload costs no model time. What is kept is never the truth. Whatever fails here costs
 * computing, and no batch.
 */
export interface Reuse {
  embed(pipeline: Pipeline, model: string, texts: readonly string[], options: ReuseOptions): Promise<Reused>;
}

export interface ReuseOptions {
  compute: (texts: readonly string[]) => Promise<Embedded[]>;
  /** More texts than that are not computed. */
  maxComputed: number;
}

export interface Reused {
  /** One a text; undefined beyond the most that may be computed. */
  results: (Embedded | undefined)[];
  /** How many texts were given to the model. */
  computed: number;
  /** Keeps what was computed, beside whatever comes next. Never rejects. */
  keep: () => Promise<void>;
}

/** Every text is computed. */
export const noReuse: Reuse = {
  async embed(_pipeline, _model, texts, { compute }) {
    const results = texts.length === 0 ? [] : await compute(texts);
    return { results, computed: texts.length, keep: () => Promise.resolve() };
  },
};

/** After a fault what is kept is left alone for this long. */
const FAULT_MS = 30_000;
/** The size is looked at when this part of it has been written. */
const LOOK_SHARE = 1 / 16;

export function createReuse(pool: Pool, { maxBytes, log }: { maxBytes: number; log: Logger }): Reuse {
  let faultUntil = 0;
  let faults = 0;
  let unlookedBytes = Infinity;
  let excess = 0;

  async function attempt<T>(work: () => Promise<T>, otherwise: T): Promise<T> {
    if (performance.now() < faultUntil) return otherwise;
    try {
      return await work();
    } catch (error) {
      faultUntil = performance.now() + FAULT_MS;
      log[faults++ === 0 ? "warn" : "debug"](
        { cause: messageOf(error) },
        "kept vectors are out of reach, computing instead",
      );
      return otherwise;
    }
  }

  /** Drops twice what comes in until the excess is gone, so that no batch waits for much at once. */
  async function bound(bytes: number): Promise<void> {
    unlookedBytes += bytes;
    if (unlookedBytes >= maxBytes * LOOK_SHARE) {
      unlookedBytes = 0;
      excess = await excessBytes(pool, maxBytes);
    }
    // Taken before it is dropped, since other batches do the same.
    const share = Math.min(excess, 2 * bytes);
    excess -= share;
    if (share > 0) await dropLeastUsed(pool, share);
  }

  return {
    async embed(pipeline, model, texts, { compute, maxComputed }) {
      const space = { model, dimensions: pipeline.dimensions };
      const hashes = texts.map((text) => createHash("sha256").update(text).digest("hex"));
      const wanted = [...new Set(hashes)];
      const none = { vectors: new Map<string, Float32Array>(), aged: [] as string[] };
      const { vectors, aged } =
        wanted.length === 0 ? none : await attempt(() => findKept(pool, pipeline, space, wanted), none);
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
        keep: () =>
          attempt(async () => {
            const fresh = [...computed]
              .flatMap(([hash, answer]) =>
                answer !== undefined && "embedding" in answer ? [{ hash, embedding: answer.embedding }] : [],
              )
              .sort((a, b) => (a.hash < b.hash ? -1 : 1));
            if (fresh.length > 0) {
              await keepVectors(pool, pipeline, space, fresh);
              await bound(fresh.length * (4 * space.dimensions + ROW_OVERHEAD_BYTES));
            }
            if (aged.length > 0) await touchKept(pool, space, aged);
          }, undefined),
      };
    },
  };
}
