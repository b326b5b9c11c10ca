import { runBatch } from "./batch.js";
import type { BatchContext, BatchOptions } from "./batch.js";
import { claimPending } from "./claim/claim.sql.js";
import { newBatchSize, nextClaimRows } from "./pace.js";
import type { BatchSize } from "./pace.js";
import { forgetSettledFailures } from "./write/failures.sql.js";

export interface SweepOptions extends BatchOptions {
  /** The worker's current id. */
  workerId: () => number;
  leaseMs: number;
  maxClaimChars: number;
  stopping: () => boolean;
}

/** One in this many rows of a claim comes from the newest end. */
const FRESH_SHARE = 8;

/** What one sweep passes on to the next. */
export interface SweepMemory {
  size: BatchSize;
  /** One claim in this many starts at the first key, to find rows behind the cursor that were edited. */
  rescanEvery: number;
}

const RESCAN_EVERY = 4;
/**
 * Until a vacuum, a rescan walks over the index entries of rows that are done. It may take this long, or
 * RESCAN_SHARE times as long as the claim before it on slow systems; after a slower one, rescans become rarer.
 */
const RESCAN_MS = 50;
const RESCAN_SHARE = 4;

export const newSweepMemory = (minBatchRows = 0): SweepMemory => ({
  size: newBatchSize(minBatchRows),
  rescanEvery: RESCAN_EVERY,
});

/**
 * Claims, embeds and writes until nothing is claimable. Several batches run at once: while the model computes,
 * the next batch is claimed and the previous one written. The last claim, which finds nothing, always starts at
 * the first key, so no row is skipped for good.
 * @returns how many rows were claimed, and for how many of them the outcome is known
 * @throws the first error of a batch, after all other batches have ended
 */
export async function sweep(
  context: BatchContext,
  options: SweepOptions,
  memory: SweepMemory,
): Promise<{ claimed: number; settled: number }> {
  const { pool, pipeline, provider } = context;
  const depth = provider.concurrency + 1;
  const inFlight = new Set<Promise<void>>();
  const started = performance.now();
  const failures: unknown[] = [];
  let cursor: string[] | null = null;
  let claims = 0;
  let claimMs = 0;
  let claimed = 0;
  let settled = 0;
  const mayClaim = () => failures.length === 0 && !options.stopping();

  while (mayClaim()) {
    while (inFlight.size >= depth) await Promise.race(inFlight);
    await options.held.room();
    if (!mayClaim()) break;
    const limit = nextClaimRows(memory.size, Math.min(options.maxBatchRows, provider.maxBatchRows));
    const newest = Math.floor(limit / FRESH_SHARE);
    const rescan = cursor !== null && ++claims % memory.rescanEvery === 0;
    const claimStarted = performance.now();
    let next;
    try {
      next = await claimPending(pool, pipeline, {
        model: provider.model,
        worker: options.workerId(),
        leaseMs: options.leaseMs,
        oldest: limit - newest,
        newest,
        cursor: rescan ? null : cursor,
        maxChars: options.maxChars,
        maxClaimChars: options.maxClaimChars,
      });
    } catch (error) {
      failures.push(error);
      break;
    }
    if (next === null) {
      if (cursor === null || rescan) break;
      cursor = null;
      continue;
    }
    const claim = next;
    if (rescan) {
      const slow = performance.now() - claimStarted > Math.max(RESCAN_MS, RESCAN_SHARE * claimMs);
      memory.rescanEvery = slow ? memory.rescanEvery * 2 : RESCAN_EVERY;
    } else {
      cursor = claim.last ?? cursor;
      claimMs = performance.now() - claimStarted;
    }
    claimed += claim.keys.length;
    const done = runBatch(context, options, { claim, limit, size: memory.size })
      .then((count) => {
        settled += count;
      })
      .catch((error: unknown) => {
        failures.push(error);
      })
      .finally(() => inFlight.delete(done));
    inFlight.add(done);
  }
  await Promise.all(inFlight);
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
