import { EmbeddError } from "../../errors.js";
import type { EmbedOptions, Provider } from "../../providers/provider.js";
import { UnusableVectors, unusableVector } from "../../providers/unusable-vectors.js";

/** The result for one text: its vector, or why this text alone has none. */
export type Embedded = { embedding: Float32Array } | { error: EmbeddError };

/**
 * Embeds texts. Where a provider refuses an input, halves the batch until that input stands alone, so that it
 * alone is charged: at most 2·k·log2(n) + 2 calls for k bad inputs among n.
 * @throws every error that is not about one text
 */
export async function embedTexts(
  provider: Provider,
  texts: readonly string[],
  options: EmbedOptions = {},
): Promise<Embedded[]> {
  try {
    const vectors = await provider.embed(texts, options).catch(answerOf);
    return check(provider.model, options.dimensions ?? provider.dimensions, texts.length, vectors);
  } catch (error) {
    if (!(error instanceof EmbeddError) || error.kind !== "row") throw error;
    if (texts.length === 1) return [{ error }];
    const half = Math.ceil(texts.length / 2);
    const first = await embedTexts(provider, texts.slice(0, half), options);
    return [...first, ...(await embedTexts(provider, texts.slice(half), options))];
  }
}

/** The answer of a call that failed only because some of its vectors are unusable. */
function answerOf(error: unknown): readonly Float32Array[] {
  if (error instanceof UnusableVectors) return error.vectors;
  throw error;
}

/** A provider's answer is never trusted: a wrong vector in a row is worse than none. */
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
    const error = unusableVector(model, embedding);
    return error === null ? { embedding } : { error };
  });

  function wrongAnswer(what: string): EmbeddError {
    return new EmbeddError(`${model} ${what}`, { kind: "provider", code: "wrong_answer" });
  }
}
