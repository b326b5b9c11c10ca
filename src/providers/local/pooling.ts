import { configurationError } from "../../errors.js";

/**
 * Pools and normalizes the output of a model whose graph does not. [rows, dimensions] is only normalized;
 * [rows, length, dimensions] is first averaged over the first `lengths` tokens of each row.
 * @returns [rows, dimensions], each row with norm 1 (a zero row stays zero)
 * @throws EmbeddError `configuration`/`model_config` for any other shape
 */
export function poolAndNormalize(
  values: Float32Array,
  dims: readonly number[],
  lengths: Int32Array,
): Float32Array {
  const dimensions = dims.at(-1) ?? 0;
  const rows = lengths.length;
  if (dims.length === 2) return normalizeRows(Float32Array.from(values), rows, dimensions);
  if (dims.length !== 3) {
    throw configurationError(
      "model_config",
      `the model's output has the unsupported shape [${dims.join(", ")}]`,
    );
  }
  const padded = dims[1] ?? 0;
  const pooled = new Float32Array(rows * dimensions);
  for (let row = 0; row < rows; row++) {
    const target = pooled.subarray(row * dimensions, (row + 1) * dimensions);
    const first = row * padded * dimensions;
    const end = first + (lengths[row] ?? 0) * dimensions;
    for (let token = first; token < end; token += dimensions) {
      for (let i = 0; i < dimensions; i++) target[i] = (target[i] ?? 0) + (values[token + i] ?? 0);
    }
  }
  return normalizeRows(pooled, rows, dimensions);
}

/** Takes sums as well as means, since both have the same direction. */
function normalizeRows(vectors: Float32Array, rows: number, dimensions: number): Float32Array {
  for (let row = 0; row < rows; row++) {
    const vector = vectors.subarray(row * dimensions, (row + 1) * dimensions);
    const norm = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
    if (norm > 0) vector.forEach((value, i) => (vector[i] = value / norm));
  }
  return vectors;
}
