import { EmbeddError } from "../../errors.js";
import type { EmbedOptions, Provider } from "../../providers/provider.js";

/** One text's outcome: its vector, or why this text alone has none. */
export type Embedded = { embedding: Float32Array } | { error: EmbeddError };

/**
 * Embeds texts; where a provider refuses an input, halves the batch until that input stands alone, so
 * that it alone is charged. At most 2·k·log2(n) + 2 calls for k bad inputs of n.
 * @throws whatever has nothing to do with one text
 */
export async function embedBatch(
  provider: Provider,
  texts: readonly string[],
  options: EmbedOptions = {},
): Promise<Embedded[]> {
  try {
    const vectors = await provider.embed(texts, options);
    return check(provider.model, options.dimensions ?? provider.dimensions, texts.length, vectors);
  } catch (error) {
    if (!(error instanceof EmbeddError) || error.kind !== "row") throw error;
    if (texts.length === 1) return [{ error }];
    const half = Math.ceil(texts.length / 2);
    const first = await embedBatch(provider, texts.slice(0, half), options);
    return [...first, ...(await embedBatch(provider, texts.slice(half), options))];
  }
}

/** What a provider returned is never trusted: a wrong vector in a row is worse than none. */
function check(
  model: string,
  dimensions: number,
  count: number,
  vectors: readonly Float32Array[],
): Embedded[] {
  if (vectors.length !== count) {
    throw wrongAnswer(`returned ${vectors.length} vectors for ${count} texts`);
  }
  return vectors.map((embedding) => {
    if (embedding.length !== dimensions) {
      throw wrongAnswer(`returned ${embedding.length} dimensions instead of ${dimensions}`);
    }
    let squares = 0;
    for (const component of embedding) squares += component * component;
    if (Number.isFinite(squares) && squares > 0) return { embedding };
    const what = squares === 0 ? "a vector of zeros" : "a vector that is not finite";
    return {
      error: new EmbeddError(`${model} returned ${what}`, { kind: "row", code: "bad_vector" }),
    };
  });

  function wrongAnswer(what: string): EmbeddError {
    return new EmbeddError(`${model} ${what}`, { kind: "provider", code: "wrong_answer" });
  }
}
