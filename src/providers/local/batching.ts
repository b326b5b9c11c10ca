/** Rows of one micro-batch, by their index in the caller's order, and the length they are padded to. */
export interface MicroBatch {
  rows: readonly number[];
  /** Tokens of the longest row. */
  length: number;
}

/**
 * Cuts rows into micro-batches for the model. Every row is in exactly one; rows of like length are
 * together, since on a CPU padding costs as much as text; `rows × length` of a micro-batch is at most
 * `tokenBudget`, except for a row that is longer by itself. Longest first, so that the largest buffers
 * are allocated first and reused.
 *
 * @param lengths tokens of each row
 * @param tokenBudget tokens of a micro-batch, padding included
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
