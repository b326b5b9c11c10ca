import { InvalidArgumentError } from "commander";

/** Parses an option for commander: a whole number, 1 or more. */
export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError("It must be a whole number, 1 or more.");
  return value;
}

/** Parses an option for commander: a whole number, 0 or more. */
export function wholeNumberOrZero(text: string): number {
  return text === "0" ? 0 : wholeNumber(text);
}

/**
 * Parses an option for commander that takes several columns: `title body` or `title,body`.
 * @param before the columns of the words before this one
 */
export function columnNames(text: string, before: string[] | undefined): string[] {
  const names = /^[\p{L}\p{N}_$]+(, *[\p{L}\p{N}_$]+)+$/u.test(text) ? text.split(/, */) : [text];
  return [...(before ?? []), ...names];
}
