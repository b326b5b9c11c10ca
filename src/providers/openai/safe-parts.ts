/** What errors repeat of a server's answer. Everything else could quote a text or a key. */

export const QUOTA_CODES = new Set([
  "insufficient_quota",
  "billing_hard_limit_reached",
  "billing_not_active",
]);
export const INPUT_CODES = new Set(["context_length_exceeded", "string_above_max_length", "content_filter"]);
export const REQUEST_PARAMS = new Set(["model", "dimensions", "user"]);
export const REQUEST_CODES = new Set([
  "model_not_found",
  "invalid_model",
  "unknown_model",
  "DeploymentNotFound",
  "OperationNotSupported",
  "unknown_parameter",
  "unsupported_parameter",
]);

/** How servers without such codes say that a text is too long: Ollama, TEI, vLLM and llama.cpp. */
const TOO_LONG =
  /exceeds (the |maximum |the maximum )?context|maximum context length|must have less than \d+ tokens|is too large to process|exceed_context_size|input is too long/i;

/** A message may quote a text, so this decides only what is tried next. */
export const saysTooLong = (message: string): boolean => TOO_LONG.test(message);

/** The only parts of an answer that messages repeat; an unknown code could be any text. */
const KNOWN_CODES = new Set([
  ...QUOTA_CODES,
  ...INPUT_CODES,
  ...REQUEST_CODES,
  "invalid_api_key",
  "invalid_request_error",
  "rate_limit_exceeded",
  "server_error",
  "overloaded",
]);

export function known(value: unknown): string | null {
  return typeof value === "string" && KNOWN_CODES.has(value) ? value : null;
}

/** The server's request id, for its support. */
export function requestId(value: unknown): string {
  return typeof value === "string" && /^(req_)?[\da-f-]{16,64}$/i.test(value) ? ` (request ${value})` : "";
}

/** Whether undici cut an answer off because more than five codings, such as gzip, would have to be undone. */
export function saysTooManyCodings(thrown: unknown): boolean {
  for (let error = thrown, depth = 0; error instanceof Error && depth < 5; error = error.cause, depth++) {
    if (error.message.startsWith("too many content-encodings")) return true;
  }
  return false;
}

/** A code such as ECONNRESET, which `fetch` nests several causes deep. */
export function systemCode(thrown: unknown): string | null {
  for (let error = thrown, depth = 0; error instanceof Error && depth < 5; error = error.cause, depth++) {
    const { code } = error as NodeJS.ErrnoException;
    if (typeof code === "string" && /^[A-Z][A-Z0-9_]+$/.test(code)) return code;
    if (error instanceof AggregateError && error.errors.length > 0) return systemCode(error.errors[0]);
  }
  return null;
}
