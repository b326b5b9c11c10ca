/** No batch is smaller than this where there are rows enough. */
export const MIN_BATCH_ROWS = 16;

/**
 * How many rows to claim next, so that a batch takes about `targetMs` to embed: small enough that a fresh
 * row is soon in one, large enough that claim and write cost nothing beside it. Machines and models
 * differ by a hundred times, so it is measured and not set.
 * @param rows of the last batch, which was full
 * @param ms that embedding it took
 */
export function nextBatchRows(rows: number, ms: number, targetMs: number, maxRows: number): number {
  const ideal = (rows * targetMs) / Math.max(ms, 1);
  return Math.round(Math.min(Math.max(ideal, rows / 2, MIN_BATCH_ROWS), rows * 2, maxRows));
}
