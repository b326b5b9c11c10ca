/** No batch is smaller than this where there are rows enough. */
export const MIN_BATCH_ROWS = 16;

/**
 * How many rows to claim next, so that a batch takes about `targetMs` to embed: small enough that a fresh
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
