import { InvalidArgumentError } from "commander";

/** For commander: a whole number from 1. */
export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError("It must be a whole number from 1.");
  return value;
}

/** For commander: a whole number from 0. */
export function wholeNumberOrZero(text: string): number {
  return text === "0" ? 0 : wholeNumber(text);
}
