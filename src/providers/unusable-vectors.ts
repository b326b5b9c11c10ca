import { EmbeddError } from "../errors.js";

/**
 * Why a vector is unusable; null: it is fine. pgvector refuses components that are not finite, and the cosine
 * distance to a zero vector is undefined.
 */
export function unusableVector(model: string, vector: Float32Array): EmbeddError | null {
  let squares = 0;
  for (const component of vector) squares += component * component;
  if (Number.isFinite(squares) && squares > 0) return null;
  const what = squares === 0 ? "a vector of zeros" : "a vector that is not finite";
  return new EmbeddError(`${model} returned ${what}`, { kind: "row", code: "unusable_vector" });
}

/** Some vectors of a call are unusable. The error carries the whole answer, so the other texts need no second call. */
export class UnusableVectors extends EmbeddError {
  /** Private, so that no log prints them. */
  readonly #vectors: readonly Float32Array[];

  constructor({ message, kind, code }: EmbeddError, vectors: readonly Float32Array[]) {
    super(message, { kind, code });
    this.#vectors = vectors;
  }

  /** One per text, in the order of the texts. */
  get vectors(): readonly Float32Array[] {
    return this.#vectors;
  }
}

/**
 * Returns the vectors of one call.
 * @throws UnusableVectors if one of them is zero or not finite
 */
export function requireUsable<T extends readonly Float32Array[]>(model: string, vectors: T): T {
  for (const vector of vectors) {
    const error = unusableVector(model, vector);
    if (error !== null) throw new UnusableVectors(error, vectors);
  }
  return vectors;
}
