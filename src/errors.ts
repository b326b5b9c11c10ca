import type { ErrorCode, ErrorKind } from "./error-codes.js";

export interface EmbeddErrorOptions {
  kind: ErrorKind;
  /** A literal that scripts can compare, such as `"no_such_table"`; src/error-codes.ts explains each. */
  code: ErrorCode;
  /** What to type, ready to paste into a shell or psql. Each line is a complete choice. The command shows SQL as psql. */
  hint?: string;
  /** How long to wait before the next attempt, in milliseconds. */
  retryAfterMs?: number;
  cause?: unknown;
}

/** Every error that embedd raises on purpose. Its message never holds a row's text. */
export class EmbeddError extends Error {
  readonly kind: ErrorKind;
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(message: string, options: EmbeddErrorOptions) {
    super(message, { cause: options.cause });
    this.name = "EmbeddError";
    this.kind = options.kind;
    this.code = options.code;
    this.hint = options.hint;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** A setting, the schema or the command line is wrong; nothing was changed. */
export function configurationError(code: ErrorCode, message: string, hint?: string): EmbeddError {
  return new EmbeddError(message, { kind: "configuration", code, ...(hint && { hint }) });
}

/** The message of anything that was thrown, on one line for a log or a terminal. Of an object without one, its name and code. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === "" && error.errors.length > 0) {
    return error.errors.map(messageOf).join("; ");
  }
  if (typeof error !== "object" || error === null) return String(error);
  const { name, message, code, errno } = error as Record<string, unknown>;
  if (typeof message === "string" && message !== "") return message;
  const number = [code, errno].find((value) => typeof value === "string" || typeof value === "number");
  return `${typeof name === "string" ? name : "an error without a message"}${number === undefined ? "" : ` ${String(number)}`}`;
}
