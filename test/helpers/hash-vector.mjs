import { createHash } from "node:crypto";

/**
 * The vector of a text without a model: unit length, and different for each text. Plain JavaScript, so
 * that worker processes of the tests can run it without a build.
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
