import { EmbeddError } from "../errors.js";
import type { Claim } from "./claim/claim.sql.js";
import { processBatch } from "./batch.js";
import type { BatchContext, BatchOutcome } from "./batch.js";
import { learnFrom } from "./pace.js";
import type { BatchSize } from "./pace.js";
import type { LockedRows } from "./write/held-rows.js";
import { DAILY_LIMIT } from "./embed/usage.js";

export interface BatchOptions {
  maxBatchRows: number;
  /** What a batch should take to embed. */
  batchMs: number;
  /** Leases that are to be renewed. */
  leases: Set<string>;
  locked: LockedRows;
  onBatch: (outcome: BatchOutcome) => void;
}

/** What is left of the day's tokens may do for fewer rows. */
const isLimit = (error: unknown): boolean => error instanceof EmbeddError && error.code === DAILY_LIMIT;

/**
 * Embeds and completes what was claimed, and learns from it how much to claim next.
 * @param limit how many rows were asked for
 * @returns of how many rows it is clear what became of them
 */
export async function runBatch(
  context: BatchContext,
  options: BatchOptions,
  { claim, limit, size }: { claim: Claim; limit: number; size: BatchSize },
): Promise<number> {
  options.leases.add(claim.leaseId);
  try {
    const outcome = await processBatch(context, claim, 2 * size.rows);
    if (claim.rows.length >= limit) {
      const { batchMs: targetMs, maxBatchRows: maxRows } = options;
      learnFrom(size, { rows: limit, ...outcome }, { targetMs, maxRows });
    }
    if (outcome.locked.length > 0) options.locked.add(context, claim.leaseId, outcome.locked);
    else options.leases.delete(claim.leaseId);
    options.onBatch(outcome);
    return outcome.written + outcome.failed + outcome.locked.length;
  } catch (error) {
    options.leases.delete(claim.leaseId);
    if (!isLimit(error) || claim.rows.length === 1) throw error;
    size.rows = Math.ceil(claim.rows.length / 4);
    size.rowsPerComputed = 1;
    return 0;
  }
}
