/** No batch is smaller than this if there are enough rows. */
const MIN_BATCH_ROWS = 16;

/** The size of the next batch, learned from those before it. */
export interface BatchSize {
  /** Rows that the model computes in the time a batch should take. */
  rows: number;
  /** Rows per computed row in the last full batch. */
  rowsPerComputed: number;
  /** The minimum that the provider asks for. */
  minRows: number;
}

/** With cached vectors, claims grow by up to this factor. */
const MAX_ROWS_PER_COMPUTED = 16;

export const newBatchSize = (minRows = 0): BatchSize => ({
  rows: Math.max(2 * MIN_BATCH_ROWS, minRows),
  rowsPerComputed: 1,
  minRows,
});

/** How many rows to claim next. */
export function nextClaimRows({ rows, rowsPerComputed }: BatchSize, maxRows: number): number {
  return Math.min(Math.round(rows * rowsPerComputed), maxRows);
}

/** Adapts the size to a full batch of `rows`. */
export function learnFrom(
  size: BatchSize,
  batch: { rows: number; computed: number; released: number; embedMs: number },
  { targetMs, maxRows }: { targetMs: number; maxRows: number },
): void {
  const ratio = batch.released > 0 ? 1 : batch.rows / Math.max(batch.computed, 1);
  size.rowsPerComputed = Math.min(ratio, MAX_ROWS_PER_COMPUTED);
  // Fewer rows say little about the model's speed.
  if (batch.computed < MIN_BATCH_ROWS) return;
  const next = nextBatchRows(size.rows, { rows: batch.computed, ms: batch.embedMs }, { targetMs, maxRows });
  size.rows = Math.max(next, Math.min(size.minRows, maxRows));
}

/**
 * How many rows to process next so that a batch takes about `targetMs`: small enough that a fresh row soon gets
 * its turn, large enough that the cost of claims and writes is negligible. Machines and models differ by a
 * factor of a hundred, so the size is measured, not configured.
 * @param previous the previous result
 * @param batch how many rows were processed, and in how much time
 */
export function nextBatchRows(
  previous: number,
  { rows, ms }: { rows: number; ms: number },
  { targetMs, maxRows }: { targetMs: number; maxRows: number },
): number {
  const ideal = (rows * targetMs) / Math.max(ms, 1);
  return Math.round(Math.min(Math.max(ideal, previous / 2, MIN_BATCH_ROWS), previous * 2, maxRows));
}
