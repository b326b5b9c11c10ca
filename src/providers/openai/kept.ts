import { createHash } from "node:crypto";

/**
 * Vectors of calls that failed in part: what was paid for is there when the call is made again, or its halves
 * are, to find the text at fault. Bounded; each is handed out once.
 */
export interface KeptAnswers {
  keep(text: string, dimensions: number, vector: Float32Array): void;
  take(text: string, dimensions: number): Float32Array | undefined;
}

/** With 1,536 dimensions, 25 MB. */
const MAX_KEPT = 4_096;

export function createKeptAnswers(): KeptAnswers {
  const vectors = new Map<string, Float32Array>();
  // Texts may be long, and are not kept.
  const key = (text: string, dimensions: number): string =>
    `${dimensions} ${createHash("sha256").update(text).digest("base64")}`;
  return {
    keep(text, dimensions, vector) {
      const [oldest] = vectors.keys();
      if (vectors.size >= MAX_KEPT && oldest !== undefined) vectors.delete(oldest);
      vectors.set(key(text, dimensions), vector);
    },
    take(text, dimensions) {
      if (vectors.size === 0) return undefined;
      const found = key(text, dimensions);
      const vector = vectors.get(found);
      vectors.delete(found);
      return vector;
    },
  };
}
