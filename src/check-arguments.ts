import { z } from "zod";
import { addressProblem } from "./database-address.js";
import { configurationError } from "./errors.js";

/** An address of PostgreSQL. It may hold a password, so no message repeats it. */
export const databaseAddress = z
  .string({ error: "must be a string such as postgres://user@host:5432/database" })
  .superRefine((value, context) => {
    const message = addressProblem(value);
    if (message !== null) context.addIssue(message);
  });

/** @param min inclusive, as `max` */
export function wholeNumber(min: number, max: number) {
  const error = `must be a whole number from ${min} to ${max}`;
  return z.number({ error }).int({ error }).min(min, { error }).max(max, { error });
}

/**
 * Checks what a program handed to a function of the library.
 * @param what names the function
 * @returns the value, typed
 * @throws EmbeddError `configuration`/`argument` that names every invalid argument
 */
export function checkArguments<T extends z.ZodType>(what: string, schema: T, value: unknown): z.output<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => {
    const name = path.map(String).join(".");
    return name === "" ? message : `${name}: ${message}`;
  });
  throw configurationError("argument", `${what}: ${[...new Set(problems)].join("; ")}`);
}
