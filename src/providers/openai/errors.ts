import { APIConnectionError, APIError } from "openai";
import type { ErrorCode } from "../../error-codes.js";
import { EmbeddError } from "../../errors.js";
import { WrongAnswer } from "./answer.js";
import { retryAfterMs } from "./headers.js";
import type { ApiSettings } from "./settings.js";

/**
 * What a failed request means. It never repeats the server's message, which can quote an input, and never
 * carries the SDK's error as its cause, since that holds headers.
 */
export interface Failure {
  error: EmbeddError;
  /**
   * `retry`: transient. `stop`: lasts until someone fixes it, or for hours. `input`: an input is at fault.
   * `unclear`: an input or the whole request is at fault. `base64`: the server supports only floats.
   */
  meaning: "retry" | "stop" | "input" | "unclear" | "base64";
  /** The server is overloaded. */
  overload: boolean;
  /** They can report rate limits. */
  headers?: Headers;
  /** Whether the server may have computed and billed the request. */
  maybeSpent: boolean;
}

/** How long to wait after a rejected key or a wrong URL. */
export const STOP_MS = 60_000;
/** A rate limit that asks for a longer wait counts as a quota. */
const QUOTA_MS = 600_000;

const QUOTA_CODES = new Set(["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"]);
const INPUT_CODES = new Set(["context_length_exceeded", "string_above_max_length", "content_filter"]);
const REQUEST_PARAMS = new Set(["model", "dimensions", "user"]);
const REQUEST_CODES = new Set([
  "model_not_found",
  "invalid_model",
  "unknown_model",
  "DeploymentNotFound",
  "OperationNotSupported",
  "unknown_parameter",
  "unsupported_parameter",
]);

type Named = Pick<ApiSettings, "baseUrl" | "wireModel" | "inputTokens" | "key" | "keyFrom">;

/** Classifies what a request threw. @param timeoutMs set if the request timed out */
export function classify(thrown: unknown, settings: Named, timeoutMs: number | null): Failure {
  const host = new URL(settings.baseUrl).host;
  if (timeoutMs !== null) {
    return transient("timeout", `${host} did not answer within ${timeoutMs} ms`, { maybeSpent: true });
  }
  if (thrown instanceof WrongAnswer) {
    return transient("wrong_answer", `${host} returned ${thrown.message}`, { maybeSpent: true });
  }
  if (thrown instanceof APIError && !(thrown instanceof APIConnectionError) && thrown.status !== undefined) {
    return classifyStatus(thrown as StatusError, settings, host);
  }
  if (thrown instanceof SyntaxError) {
    return transient("wrong_answer", `${host} returned invalid JSON`, { maybeSpent: true });
  }
  const code = systemCode(thrown);
  const neverSent = code === "ECONNREFUSED" || code === "ENOTFOUND" || code === "EAI_AGAIN";
  return transient("unreachable", `the connection to ${host} failed${code === null ? "" : ` (${code})`}`, {
    maybeSpent: !neverSent,
  });
}

type StatusError = APIError & { status: number };

function classifyStatus(thrown: StatusError, settings: Named, host: string): Failure {
  const { status } = thrown;
  const code = known(thrown.code) ?? known(thrown.type);
  const { param } = thrown;
  const wait = thrown.headers === undefined ? null : retryAfterMs(thrown.headers, Date.now());
  const answered = `${host} answered ${status}${code === null ? "" : ` ${code}`}${requestId(thrown.requestID)}`;
  const { key, keyFrom, wireModel, inputTokens } = settings;

  if (code !== null && QUOTA_CODES.has(code)) {
    return stop("quota", `${answered}: the account's quota is used up`, wait ?? QUOTA_MS);
  }
  if (status === 429 || (status === 403 && wait !== null)) {
    const daily = thrown.headers?.get("x-ratelimit-type")?.includes("ByDay") === true;
    if (daily || (wait ?? 0) >= QUOTA_MS)
      return stop("quota", `${answered}: a quota is used up`, wait ?? QUOTA_MS);
    const failure = transient("rate_limited", `${answered}: too many requests or tokens`, {
      wait,
      overload: true,
    });
    return thrown.headers === undefined ? failure : { ...failure, headers: thrown.headers };
  }
  if (status === 401) {
    return stop(
      "unauthorized",
      key.current() === null
        ? `${answered}: it requires a key; set ${key.variable}`
        : `${answered}: it rejected the key in ${key.variable}; get a key from ${keyFrom}`,
    );
  }
  if (status === 403) {
    return stop(
      "forbidden",
      `${answered}: the key in ${key.variable} may not use ${wireModel}; check ${keyFrom}`,
    );
  }
  if (status === 404 || status === 405 || status === 410) {
    return stop(
      "not_found",
      `${answered}: no model ${wireModel} at ${settings.baseUrl}; check EMBEDD_MODEL, EMBEDD_DEPLOYMENT or EMBEDD_BASE_URL`,
    );
  }
  if (status === 400 || status === 413 || status === 422) {
    const named = `${answered}, model ${wireModel}`;
    if (param === "encoding_format") return { ...refusedInput(named), meaning: "base64" };
    if (
      (typeof param === "string" && REQUEST_PARAMS.has(param)) ||
      (code !== null && REQUEST_CODES.has(code))
    ) {
      return badRequest(answered);
    }
    const namesInput =
      (typeof param === "string" && param.startsWith("input")) || (code !== null && INPUT_CODES.has(code));
    const limit =
      code === "context_length_exceeded" && inputTokens !== null ? `, limit ${inputTokens} tokens` : "";
    return {
      ...refusedInput(`${named}${limit}`),
      meaning: namesInput || status === 413 ? "input" : "unclear",
    };
  }
  if (status === 408 || status === 409 || status === 425 || status >= 500) {
    return transient("unavailable", answered, { wait, overload: status === 503 && wait !== null });
  }
  return stop("bad_request", answered);
}

/** The server refuses the request regardless of its texts. @param answered the status line of the message */
export function badRequest(answered: string): Failure {
  return stop(
    "bad_request",
    `${answered}: it refuses the request, not the texts; check EMBEDD_MODEL or EMBEDD_DIMENSIONS`,
  );
}

export function wrongDimensions(settings: ApiSettings, asked: number, got: number): Failure {
  const { wireModel } = settings;
  const message = `${wireModel} was asked for ${asked} dimensions but returned ${got}: use a vector(${got}) column, or set EMBEDD_DIMENSIONS or EMBEDD_MODEL`;
  return { ...stop("wrong_dimensions", message), maybeSpent: true };
}

export function tooLong(model: string, limit: number): EmbeddError {
  return new EmbeddError(`the text is longer than ${model}'s limit of ${limit} tokens`, {
    kind: "row",
    code: "too_long",
  });
}

function refusedInput(answered: string): Omit<Failure, "meaning"> {
  const error = new EmbeddError(answered, { kind: "row", code: "refused_input" });
  return { error, overload: false, maybeSpent: false };
}

interface TransientOptions {
  wait?: number | null;
  overload?: boolean;
  maybeSpent?: boolean;
}

function transient(code: ErrorCode, message: string, options: TransientOptions = {}): Failure {
  const { wait = null, overload = false, maybeSpent = false } = options;
  return {
    error: new EmbeddError(message, { kind: "provider", code, ...(wait !== null && { retryAfterMs: wait }) }),
    meaning: "retry",
    overload,
    maybeSpent,
  };
}

function stop(code: ErrorCode, message: string, retryAfterMs = STOP_MS): Failure {
  return {
    error: new EmbeddError(message, { kind: "provider", code, retryAfterMs }),
    meaning: "stop",
    overload: false,
    maybeSpent: false,
  };
}

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

function known(value: unknown): string | null {
  return typeof value === "string" && KNOWN_CODES.has(value) ? value : null;
}

/** The server's request id, for its support. */
function requestId(value: unknown): string {
  return typeof value === "string" && /^(req_)?[\da-f-]{16,64}$/i.test(value) ? ` (request ${value})` : "";
}

/** A code such as ECONNRESET, which `fetch` nests several causes deep. */
function systemCode(thrown: unknown): string | null {
  for (let error = thrown, depth = 0; error instanceof Error && depth < 5; error = error.cause, depth++) {
    const { code } = error as NodeJS.ErrnoException;
    if (typeof code === "string" && /^[A-Z][A-Z0-9_]+$/.test(code)) return code;
    if (error instanceof AggregateError && error.errors.length > 0) return systemCode(error.errors[0]);
  }
  return null;
}
