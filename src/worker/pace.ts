/** No batch is smaller than this where there are rows enough. */
export const MIN_BATCH_ROWS = 16;

/** What batches so far tell of the size of the next. */
export interface BatchSize {
  /** Rows that the model computes in the time that a batch should take. */
  rows: number;
  /** Rows of the last full batch by rows that were computed for it. */
  rowsPerComputed: number;
  /** What the provider asks for at least. */
  minRows: number;
}

/** Where kept vectors are found, claims are larger by up to this. */
const MAX_ROWS_PER_COMPUTED = 16;

export const newBatchSize = (minRows = 0): BatchSize => ({
  rows: Math.max(2 * MIN_BATCH_ROWS, minRows),
  rowsPerComputed: 1,
  minRows,
});

/** How many rows to claim next. */
export function claimRows({ rows, rowsPerComputed }: BatchSize, maxRows: number): number {
  return Math.min(Math.round(rows * rowsPerComputed), maxRows);
}

/** What a full batch of `rows` has shown. */
export function learnFrom(
  size: BatchSize,
  batch: { rows: number; computed: number; givenBack: number; embedMs: number },
  { targetMs, maxRows }: { targetMs: number; maxRows: number },
): void {
  const ratio = batch.givenBack > 0 ? 1 : batch.rows / Math.max(batch.computed, 1);
  size.rowsPerComputed = Math.min(ratio, MAX_ROWS_PER_COMPUTED);
  // Fewer say little about the model's speed.
  if (batch.computed < MIN_BATCH_ROWS) return;
  const next = nextBatchRows(size.rows, { rows: batch.computed, ms: batch.embedMs }, { targetMs, maxRows });
  size.rows = Math.max(next, Math.min(size.minRows, maxRows));
}

/**
 * How many rows to compute next, so that a batch takes about `targetMs` to embed: small enough that a fresh
 * row is soon in one, large enough that claim and write cost nothing beside it. Machines and models
 * differ by a hundred times, so it is measured and not set.
 * @param previous what this said last
 * @param batch how many rows were computed, and in how much time
 */
export function nextBatchRows(
  previous: number,
  { rows, ms }: { rows: number; ms: number },
  { targetMs, maxRows }: { targetMs: number; maxRows: number },
): number {
  const ideal = (rows * targetMs) / Math.max(ms, 1);
  return Math.round(Math.min(Math.max(ideal, previous / 2, MIN_BATCH_ROWS), previous * 2, maxRows));
}
