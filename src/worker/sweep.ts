import { claim } from "./claim/claim.sql.js";
import { forgetSettledFailures } from "./write/failures.sql.js";
import type { BatchContext } from "./batch.js";
import { claimRows, newBatchSize } from "./pace.js";
import type { BatchSize } from "./pace.js";
import { runBatch } from "./claimed-batch.js";
import type { BatchOptions } from "./claimed-batch.js";

export interface SweepOptions extends BatchOptions {
  /** The worker's present id. */
  workerId: () => number;
  leaseMs: number;
  maxChars: number;
  maxClaimChars: number;
  stopping: () => boolean;
}

/** One row in this many of a claim comes from the newest end. */
const FRESH_SHARE = 8;

/** What one sweep leaves for the next. */
export interface SweepMemory {
  size: BatchSize;
  /** One claim in this many begins at the first key, for rows behind the cursor that were edited. */
  lookBackEvery: number;
}

const LOOK_BACK_EVERY = 4;
/**
 * Until a vacuum, looking back walks over the entries of rows that are done. It is worth this, or so many
 * times what the claim before it took, where all is slow.
 */
const LOOK_BACK_MS = 50;
const LOOK_BACK_SHARE = 4;

export const newSweepMemory = (minBatchRows = 0): SweepMemory => ({
  size: newBatchSize(minBatchRows),
  lookBackEvery: LOOK_BACK_EVERY,
});

/**
 * Claims, embeds and completes until nothing is claimable. Some claims are under way at once: the next is
 * read and the last is written while the model computes. The last claim that finds nothing always begins
 * at the first key, so nothing that was skipped is forgotten.
 * @returns how many rows were claimed, and of how many it is clear what became of them
 * @throws what a batch threw, after all others have ended
 */
export async function sweep(
  context: BatchContext,
  options: SweepOptions,
  memory: SweepMemory,
): Promise<{ claimed: number; settled: number }> {
  const { pool, pipeline, provider } = context;
  const depth = provider.concurrency + 1;
  const underWay = new Set<Promise<void>>();
  const started = performance.now();
  const failures: unknown[] = [];
  let cursor: string[] | null = null;
  let claims = 0;
  let claimMs = 0;
  let claimed = 0;
  let settled = 0;
  const goesOn = () => failures.length === 0 && !options.stopping();

  while (goesOn()) {
    while (underWay.size >= depth) await Promise.race(underWay);
    await options.locked.room();
    if (!goesOn()) break;
    const limit = claimRows(memory.size, Math.min(options.maxBatchRows, provider.maxBatchRows));
    const newest = Math.floor(limit / FRESH_SHARE);
    const lookBack = cursor !== null && ++claims % memory.lookBackEvery === 0;
    const claimStarted = performance.now();
    let next;
    try {
      next = await claim(pool, pipeline, {
        worker: options.workerId(),
        leaseMs: options.leaseMs,
        oldest: limit - newest,
        newest,
        cursor: lookBack ? null : cursor,
        maxChars: options.maxChars,
        maxClaimChars: options.maxClaimChars,
      });
    } catch (error) {
      failures.push(error);
      break;
    }
    if (next === null) {
      if (cursor === null || lookBack) break;
      cursor = null;
      continue;
    }
    const batch = next;
    if (lookBack) {
      const slow = performance.now() - claimStarted > Math.max(LOOK_BACK_MS, LOOK_BACK_SHARE * claimMs);
      memory.lookBackEvery = slow ? memory.lookBackEvery * 2 : LOOK_BACK_EVERY;
    } else {
      cursor = batch.last ?? cursor;
      claimMs = performance.now() - claimStarted;
    }
    claimed += batch.rows.length;
    const done = runBatch(context, options, { claim: batch, limit, size: memory.size })
      .then((count) => {
        settled += count;
      })
      .catch((error: unknown) => {
        failures.push(error);
      })
      .finally(() => underWay.delete(done));
    underWay.add(done);
  }
  await Promise.all(underWay);
  if (failures.length > 0) throw failures[0];
  if (claimed === 0 && !options.stopping()) {
    await forgetSettledFailures(pool, pipeline, {
      kind: "pending",
      model: provider.model,
      sweepMs: performance.now() - started,
    });
  }
  return { claimed, settled };
}
