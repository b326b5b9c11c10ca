/**
 * The four kinds of fault, which decide what happens next:
 * `configuration` refuses to start, `provider` backs off and charges no row, `row` charges that row
 * alone, `database` reconnects.
 */
export type ErrorKind = "configuration" | "provider" | "row" | "database";

export interface EmbeddErrorOptions {
  kind: ErrorKind;
  /** A literal that scripts can compare, such as `"no_such_table"`. */
  code: string;
  /** What to type, so that it can be pasted into a shell or psql. */
  hint?: string;
  /** How long the other side asks us to wait, in milliseconds. */
  retryAfterMs?: number;
  cause?: unknown;
}

/** Every error that embedd raises on purpose. Its message never holds text of a user's row. */
export class EmbeddError extends Error {
  readonly kind: ErrorKind;
  readonly code: string;
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

/** The setting, the schema or the command line is wrong; nothing was changed. */
export function configurationError(code: string, message: string, hint?: string): EmbeddError {
  return new EmbeddError(message, { kind: "configuration", code, ...(hint && { hint }) });
}

/** One line for a log or a terminal: the message of anything that was thrown. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === "") {
    return error.errors.map(messageOf).join("; ");
  }
  return error instanceof Error ? error.message : String(error);
}
