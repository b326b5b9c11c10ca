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
