import { createHash } from "node:crypto";

/**
 * A text's vector where no model is needed: unit length, and another for every text. Plain JavaScript, so
 * that worker processes of the tests run it as it is.
 * @param {string} text
 * @returns {Float32Array}
 */
export function hashVector(text, dimensions = 384) {
  const digest = createHash("sha256").update(text).digest();
  const vector = Float32Array.from(
    { length: dimensions },
    (_, i) => (digest[i % 32] ?? 0) - 127.5 + i / dimensions,
  );
  const norm = Math.hypot(...vector);
  return vector.map((component) => component / norm);
}
