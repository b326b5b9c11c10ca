import { EmbeddError } from "../errors.js";

/** A text's vector, or why this text alone has none. */
export type TextResult = Float32Array | EmbeddError;

/** Some texts of a call failed, each on its own. The error carries the whole answer, so nothing is computed twice. */
export class FailedTexts extends EmbeddError {
  /** Private, so that no log prints them. */
  readonly #results: readonly TextResult[];

  /** @param first the error of one of the texts @param results one per text, in the order of the texts */
  constructor({ message, kind, code }: EmbeddError, results: readonly TextResult[]) {
    super(message, { kind, code });
    this.#results = results;
  }

  /** One per text, in the order of the texts. */
  get results(): readonly TextResult[] {
    return this.#results;
  }
}

/**
 * Returns the vectors of one call.
 * @throws FailedTexts if a text has none
 */
export function requireAll(results: readonly TextResult[]): Float32Array[] {
  return results.map((result) => {
    if (result instanceof EmbeddError) throw new FailedTexts(result, results);
    return result;
  });
}
