import { EmbeddError } from "../errors.js";
import { claim } from "../sql/claim.js";
import { forgetSettledFailures } from "../sql/failures.js";
import { processBatch } from "./batch.js";
import type { BatchContext, BatchOutcome } from "./batch.js";
import { MIN_BATCH_ROWS, nextBatchRows } from "./batch-rows.js";
import type { LockedRows } from "./locked-rows.js";
import { DAILY_LIMIT } from "./usage.js";

export interface SweepOptions {
  /** The worker's present id. */
  workerId: () => number;
  leaseMs: number;
  maxBatchRows: number;
  /** What a batch should take to embed. */
  batchMs: number;
  maxChars: number;
  maxClaimChars: number;
  /** Leases that are to be renewed. */
  leases: Set<string>;
  locked: LockedRows;
  onBatch: (outcome: BatchOutcome) => void;
  stopping: () => boolean;
}

/** One row in this many of a claim comes from the newest end. */
const FRESH_SHARE = 8;

/** What one sweep leaves for the next. */
export interface SweepMemory {
  /** Rows that the model computes in the time that a batch should take. */
  batchRows: number;
  /** Rows of the last batch by rows that were computed for it. */
  rowsPerComputed: number;
  /** One claim in this many begins at the first key, for rows behind the cursor that were edited. */
  lookBackEvery: number;
}

/** Where kept vectors are found, claims are larger by up to this. */
const MAX_ROWS_PER_COMPUTED = 16;

const LOOK_BACK_EVERY = 4;
/** Until a vacuum, looking back walks over the entries of rows that are done; it may not cost more than this. */
const LOOK_BACK_MS = 50;

export const newSweepMemory = (): SweepMemory => ({
  batchRows: 2 * MIN_BATCH_ROWS,
  lookBackEvery: LOOK_BACK_EVERY,
  rowsPerComputed: 1,
});

/** What is left of the day's tokens may do for fewer rows. */
const isLimit = (error: unknown): boolean => error instanceof EmbeddError && error.code === DAILY_LIMIT;

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
  let claimed = 0;
  let settled = 0;
  const goesOn = () => failures.length === 0 && !options.stopping();

  while (goesOn()) {
    while (underWay.size >= depth) await Promise.race(underWay);
    await options.locked.room();
    if (!goesOn()) break;
    const limit = Math.min(
      Math.round(memory.batchRows * memory.rowsPerComputed),
      options.maxBatchRows,
      provider.maxBatchRows,
    );
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
      const slow = performance.now() - claimStarted > LOOK_BACK_MS;
      memory.lookBackEvery = slow ? memory.lookBackEvery * 2 : LOOK_BACK_EVERY;
    } else {
      cursor = batch.cursor;
    }
    claimed += batch.rows.length;
    options.leases.add(batch.leaseId);
    const done = processBatch(context, batch, 2 * memory.batchRows)
      .then((outcome) => {
        if (batch.rows.length >= limit) {
          const { computed, givenBack, embedMs: ms } = outcome;
          const ratio = givenBack > 0 ? 1 : limit / Math.max(computed, 1);
          memory.rowsPerComputed = Math.min(ratio, MAX_ROWS_PER_COMPUTED);
          // Fewer say little about the model's speed.
          if (computed >= MIN_BATCH_ROWS) {
            const { batchMs: targetMs, maxBatchRows: maxRows } = options;
            memory.batchRows = nextBatchRows(memory.batchRows, { rows: computed, ms }, { targetMs, maxRows });
          }
        }
        if (outcome.locked.length > 0) options.locked.add(context, batch.leaseId, outcome.locked);
        else options.leases.delete(batch.leaseId);
        settled += outcome.written + outcome.failed + outcome.locked.length;
        options.onBatch(outcome);
      })
      .catch((error: unknown) => {
        options.leases.delete(batch.leaseId);
        if (isLimit(error) && batch.rows.length > 1) memory.batchRows = Math.ceil(batch.rows.length / 4);
        else failures.push(error);
      })
      .finally(() => underWay.delete(done));
    underWay.add(done);
  }
  await Promise.all(underWay);
  if (failures.length > 0) throw failures[0];
  if (claimed === 0 && !options.stopping()) {
    await forgetSettledFailures(pool, pipeline, performance.now() - started);
  }
  return { claimed, settled };
}
