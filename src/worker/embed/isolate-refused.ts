import { EmbeddError } from "../../errors.js";
import { FailedTexts } from "../../providers/failed-texts.js";
import type { TextResult } from "../../providers/failed-texts.js";
import type { EmbedOptions, Provider } from "../../providers/provider.js";
import { UnusableVectors, unusableVector } from "../../providers/unusable-vectors.js";

/** The result for one text: its vector, or why this text alone has none. */
export type Embedded = { embedding: Float32Array } | { error: EmbeddError };

/** Any model can embed it. */
const HARMLESS_TEXT = "embedd";

/**
 * Embeds texts. Where a provider refuses an input without telling which, halves the batch until that input stands
 * alone, so that it alone is charged: at most 2·k·log2(n) + 2 calls for k bad inputs among n.
 * @throws every error that is not about one text; also if no text at all gets a usable vector, not even a harmless one
 */
export async function embedTexts(
  provider: Provider,
  texts: readonly string[],
  options: EmbedOptions = {},
): Promise<Embedded[]> {
  const results = await isolate(provider, texts, options);
  if (results.length > 0 && results.every(isUnusable)) await requireUsableModel(provider, options);
  return results;
}

async function isolate(
  provider: Provider,
  texts: readonly string[],
  options: EmbedOptions,
): Promise<Embedded[]> {
  try {
    const results = await provider.embed(texts, options).catch(answerOf);
    return check(provider.model, options.dimensions ?? provider.dimensions, texts.length, results);
  } catch (error) {
    if (!(error instanceof EmbeddError) || error.kind !== "row") throw error;
    if (texts.length === 1) return [{ error }];
    const half = Math.ceil(texts.length / 2);
    const first = await isolate(provider, texts.slice(0, half), options);
    return [...first, ...(await isolate(provider, texts.slice(half), options))];
  }
}

const isUnusable = (result: Embedded): boolean =>
  "error" in result && result.error.code === "unusable_vector";

/** A model that returns NaN for every text is broken: the texts are not at fault. */
async function requireUsableModel(provider: Provider, options: EmbedOptions): Promise<void> {
  const [result] = await isolate(provider, [HARMLESS_TEXT], options);
  if (result === undefined || "embedding" in result) return;
  const message = `${result.error.message} for every text, a harmless one included`;
  throw new EmbeddError(message, { kind: "provider", code: "wrong_answer" });
}

/** The answer of a call that failed only because some of its texts did. */
function answerOf(error: unknown): readonly TextResult[] {
  if (error instanceof UnusableVectors) return error.vectors;
  if (error instanceof FailedTexts) return error.results;
  throw error;
}

/** A provider's answer is never trusted: a wrong vector in a row is worse than none. */
function check(model: string, dimensions: number, count: number, results: readonly TextResult[]): Embedded[] {
  if (results.length !== count) {
    throw wrongAnswer(`returned ${results.length} vectors for ${count} texts`);
  }
  return results.map((result) => {
    if (result instanceof EmbeddError) return { error: result };
    if (result.length !== dimensions) {
      throw wrongAnswer(`returned ${result.length} dimensions instead of ${dimensions}`);
    }
    const error = unusableVector(model, result);
    return error === null ? { embedding: result } : { error };
  });

  function wrongAnswer(what: string): EmbeddError {
    return new EmbeddError(`${model} ${what}`, { kind: "provider", code: "wrong_answer" });
  }
}
