import { createHash } from "node:crypto";

/**
 * Vectors from `embed` calls in which another text failed. When the caller retries the texts, alone or in
 * halves, these vectors are not paid for again. Bounded; each vector is returned once.
 */
export interface PartialResults {
  store(text: string, dimensions: number, vector: Float32Array): void;
  take(text: string, dimensions: number): Float32Array | undefined;
}

/** 25 MB at 1,536 dimensions. */
const MAX_VECTORS = 4_096;

export function createPartialResults(): PartialResults {
  const vectors = new Map<string, Float32Array>();
  // The hash stands for the text, which may be long.
  const key = (text: string, dimensions: number): string =>
    `${dimensions} ${createHash("sha256").update(text).digest("base64")}`;
  return {
    store(text, dimensions, vector) {
      const [oldest] = vectors.keys();
      if (vectors.size >= MAX_VECTORS && oldest !== undefined) vectors.delete(oldest);
      vectors.set(key(text, dimensions), vector);
    },
    take(text, dimensions) {
      if (vectors.size === 0) return undefined;
      const textKey = key(text, dimensions);
      const vector = vectors.get(textKey);
      vectors.delete(textKey);
      return vector;
    },
  };
}
