/** The rows of one micro-batch, as indexes into the caller's list, and the length they are padded to. */
export interface MicroBatch {
  rows: readonly number[];
  /** Tokens of the longest row. */
  length: number;
}

/**
 * Splits rows into micro-batches for the model. Each row is in exactly one. Rows of similar length share a
 * micro-batch, since on a CPU padding costs as much as text. `rows × length` stays within `tokenBudget`, unless
 * a single row exceeds it. The longest come first, so that the largest buffers are allocated first and reused.
 *
 * @param lengths tokens of each row
 * @param tokenBudget tokens per micro-batch, padding included
 */
export function planMicroBatches(lengths: readonly number[], tokenBudget: number): MicroBatch[] {
  const order = lengths.map((_, row) => row).sort((a, b) => (lengths[b] ?? 0) - (lengths[a] ?? 0) || a - b);
  const batches: MicroBatch[] = [];
  for (let start = 0; start < order.length;) {
    const length = lengths[order[start] ?? 0] ?? 0;
    const size = Math.max(1, Math.floor(tokenBudget / Math.max(1, length)));
    batches.push({ rows: order.slice(start, start + size), length });
    start += size;
  }
  return batches;
}
