import { visible } from "../visible.js";

/** Prints a command's result. */
export function print(text: string): void {
  process.stdout.write(visible(text));
}

/** Prints an error, a hint or progress on standard error. */
export function printError(text: string): void {
  process.stderr.write(visible(text));
}
