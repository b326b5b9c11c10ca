import { EmbeddError } from "../errors.js";
import type { Claim } from "./claim/claim.sql.js";
import { releaseLease, trimLease } from "./claim/leases.sql.js";
import { readRows } from "./claim/read-rows.sql.js";
import { embedRows } from "./embed/embed-rows.js";
import type { EmbedContext } from "./embed/embed-rows.js";
import { DAILY_LIMIT } from "./embed/usage.js";
import { learnFrom } from "./pace.js";
import type { BatchSize } from "./pace.js";
import type { BatchOutcome, EmbeddedRow, RefusedRow, WriteOutcome } from "./rows.js";
import { clearBlank } from "./write/clear-blank.sql.js";
import { findHeld } from "./write/complete.sql.js";
import { chargeFailures, recordBlank } from "./write/failures.sql.js";
import type { RetryPolicy } from "./write/failures.sql.js";
import type { HeldRows } from "./write/held-rows.js";
import { writeRows } from "./write/write-rows.js";
import type { WriteContext } from "./write/write-rows.js";

/*
 * The path of a batch: a claim has leased its rows, then they are read and embedded, their vectors written and the
 * rows that failed charged. After that the lease ends, or keeps only the rows that an application holds locked.
 */

export interface FinishContext extends WriteContext {
  retry: RetryPolicy;
}

export type BatchContext = EmbedContext & FinishContext;

export interface BatchOptions {
  maxBatchRows: number;
  /** Characters read of each content column. */
  maxChars: number;
  /** How long embedding a batch should take. */
  batchMs: number;
  /** Leases to renew. */
  leases: Set<string>;
  held: HeldRows;
  onBatch: (outcome: BatchOutcome) => void;
}

/**
 * Runs a batch, and learns from it how many rows to claim next.
 * @param limit how many rows the claim asked for
 * @returns for how many rows the outcome is known
 * @throws every error that is not about one row, once the lease is released
 */
export async function runBatch(
  context: BatchContext,
  { leases, held, onBatch, batchMs, maxBatchRows, maxChars }: BatchOptions,
  { claim, limit, size }: { claim: Claim; limit: number; size: BatchSize },
): Promise<number> {
  const { leaseId, keys } = claim;
  leases.add(leaseId);
  try {
    const outcome = await processRows(context, claim, { maxChars, maxComputed: 2 * size.rows });
    if (keys.length >= limit) {
      learnFrom(size, { rows: limit, ...outcome }, { targetMs: batchMs, maxRows: maxBatchRows });
    }
    if (outcome.held.length === 0) leases.delete(leaseId);
    else {
      const { pool, pipeline } = context;
      const write = (left: readonly EmbeddedRow[]) => finishRows(context, leaseId, left);
      held.add({ pool, pipeline, leaseId, rows: outcome.held, write });
    }
    onBatch(outcome);
    return outcome.written + outcome.failed + outcome.held.length;
  } catch (error) {
    leases.delete(leaseId);
    if (!isDailyLimit(error) || keys.length === 1) throw error;
    // The tokens left for today may suffice for fewer rows.
    size.rows = Math.ceil(keys.length / 4);
    size.rowsPerComputed = 1;
    return 0;
  }
}

const isDailyLimit = (error: unknown): boolean => error instanceof EmbeddError && error.code === DAILY_LIMIT;

/** @param maxComputed releases the rows beyond this many that would have to be computed */
async function processRows(
  context: BatchContext,
  { leaseId, keys }: Claim,
  { maxChars, maxComputed }: { maxChars: number; maxComputed: number },
): Promise<BatchOutcome> {
  try {
    const { pool, pipeline, kind, model } = context;
    const {
      rows,
      blank,
      refused: unreadable,
    } = await readRows(pool, pipeline, keys, { kind, model, maxChars });
    const started = performance.now();
    const { embedded, refused, computed, cache } = await embedRows(context, rows, maxComputed);
    const embedMs = performance.now() - started;
    const released = rows.length - embedded.length - refused.length;
    const leaseHasMore = released > 0 || rows.length + unreadable.length < keys.length;
    await recordBlank(pool, pipeline.id, blank);
    const [outcome] = await Promise.all([
      finishRows(context, leaseId, embedded, [...unreadable, ...refused], leaseHasMore),
      cache(),
    ]);
    return { ...outcome, computed, released, embedMs };
  } catch (error) {
    // If the database is what failed, the lease ends with this worker's presence, or expires.
    await releaseLease(context.pool, leaseId).catch(() => undefined);
    throw error;
  }
}

/** Writes, charges and releases. Called again for held rows, until none is left. */
async function finishRows(
  context: FinishContext,
  leaseId: string,
  embedded: readonly EmbeddedRow[],
  refusedBefore: readonly RefusedRow[] = [],
  leaseHasMore = false,
): Promise<WriteOutcome> {
  const { pool, pipeline, kind, model, retry } = context;
  const blank = kind === "refresh" ? refusedBefore.filter(({ code }) => code === "blank") : [];
  const cleared = await clearBlank(pool, pipeline, { model, rows: blank.map(({ row }) => row) });
  const { written, refused } = await writeRows(context, leaseId, embedded);
  const charged = [...refusedBefore.filter(({ row }) => !cleared.has(row.keyText)), ...refused];
  await chargeFailures(pool, pipeline.id, charged, { kind, ...retry });
  const settled = new Set([...written, ...charged.map(({ row }) => row.keyText)]);
  const unwritten = embedded.filter((row) => !settled.has(row.keyText));
  const leaseHasOthers = leaseHasMore || charged.length > 0 || cleared.size > 0;
  const held = await releaseRows(context, leaseId, unwritten, leaseHasOthers);
  return { written: written.size, failed: charged.length, held };
}

/** Leaves only held rows in the lease; rows that were changed or deleted are free for a new claim. */
async function releaseRows(
  { pool, pipeline, kind, model }: WriteContext,
  leaseId: string,
  unwritten: readonly EmbeddedRow[],
  leaseHasMore: boolean,
): Promise<EmbeddedRow[]> {
  if (unwritten.length === 0) {
    if (leaseHasMore) await releaseLease(pool, leaseId);
    return [];
  }
  const keys = await findHeld(pool, pipeline, { kind, model, rows: unwritten });
  const held = unwritten.filter((row) => keys.has(row.keyText));
  if (held.length === 0) await releaseLease(pool, leaseId);
  else await trimLease(pool, leaseId, [...keys]);
  return held;
}
