import { EmbeddError } from "../../errors.js";
import type { Failure } from "./errors.js";

export function tooLong(model: string, limit: number): EmbeddError {
  return new EmbeddError(`the text is longer than ${model}'s limit of ${limit} tokens`, {
    kind: "row",
    code: "too_long",
  });
}

/** The server takes a shorter text. */
export function refusedLength(answered: string): Failure {
  const error = new EmbeddError(answered, { kind: "row", code: "too_long" });
  return { error, meaning: "input", overload: false, sent: true, maybeSpent: false };
}

/**
 * The server cannot embed a text, or as many texts at once: it failed on them, and then embedded a harmless text.
 * @param failure how it failed
 */
export function failedInput({ error }: Failure, texts: number): EmbeddError {
  const which = texts === 1 ? "this text" : `a request with these ${texts} texts`;
  return new EmbeddError(`${error.message}, each time for ${which}, while it embeds others`, {
    kind: "row",
    code: "failed_input",
  });
}
