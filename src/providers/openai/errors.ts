import { APIConnectionError, APIError } from "openai";
import type { ErrorCode } from "../../error-codes.js";
import { EmbeddError } from "../../errors.js";
import { WrongAnswer } from "./answer.js";
import { retryAfterMs } from "./headers.js";
import type { ApiSettings } from "./settings.js";

/**
 * What a request's failure means. Nothing of the server's message is repeated, it may quote an input, and
 * no error is passed on as a cause, since the SDK's hold headers.
 */
export interface Failure {
  error: EmbeddError;
  /**
   * `retry`: may pass by itself. `stop`: not before a person mends something, or hours later. `input`: an
   * input is at fault. `unclear`: an input or the whole request. `base64`: it has only floats.
   */
  meaning: "retry" | "stop" | "input" | "unclear" | "base64";
  /** The server has more than it can do. */
  overload: boolean;
  /** What it says about its limits. */
  headers?: Headers;
  /** Whether the server may have computed, and charged, what it was asked for. */
  maybeSpent: boolean;
}

/** A refused key, a wrong address: how long until it is tried again. */
export const STOP_MS = 60_000;
/** A limit that lasts longer than this is a quota. */
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

type Named = Pick<ApiSettings, "baseUrl" | "wireModel" | "key" | "keyFrom">;

/** @param timeoutMs set where it was the time that ended the request */
export function classify(thrown: unknown, settings: Named, timeoutMs: number | null): Failure {
  const host = new URL(settings.baseUrl).host;
  if (timeoutMs !== null) {
    return passing("timeout", `${host} did not answer in ${timeoutMs} ms`, { maybeSpent: true });
  }
  if (thrown instanceof WrongAnswer) {
    return passing("wrong_answer", `${host} answered ${thrown.message}`, { maybeSpent: true });
  }
  if (thrown instanceof APIError && !(thrown instanceof APIConnectionError) && thrown.status !== undefined) {
    return classifyStatus(thrown as StatusError, settings, host);
  }
  if (thrown instanceof SyntaxError) {
    return passing("wrong_answer", `${host} answered something that is not JSON`, { maybeSpent: true });
  }
  const code = systemCode(thrown);
  const never = code === "ECONNREFUSED" || code === "ENOTFOUND" || code === "EAI_AGAIN";
  return passing("unreachable", `the connection to ${host} failed${code === null ? "" : ` (${code})`}`, {
    maybeSpent: !never,
  });
}

type StatusError = APIError & { status: number };

function classifyStatus(thrown: StatusError, settings: Named, host: string): Failure {
  const { status } = thrown;
  const code = known(thrown.code) ?? known(thrown.type);
  const { param } = thrown;
  const wait = thrown.headers === undefined ? null : retryAfterMs(thrown.headers, Date.now());
  const said = `${host} answered ${status}${code === null ? "" : ` ${code}`}${requestId(thrown.requestID)}`;
  const { key, keyFrom, wireModel } = settings;

  if (code !== null && QUOTA_CODES.has(code)) {
    return stop("quota", `${said}: the account's quota is used up`, wait ?? QUOTA_MS);
  }
  if (status === 429 || (status === 403 && wait !== null)) {
    const daily = thrown.headers?.get("x-ratelimit-type")?.includes("ByDay") === true;
    if (daily || (wait ?? 0) >= QUOTA_MS)
      return stop("quota", `${said}: a quota is used up`, wait ?? QUOTA_MS);
    const failure = passing("rate_limited", `${said}: too many requests or tokens`, { wait, overload: true });
    return thrown.headers === undefined ? failure : { ...failure, headers: thrown.headers };
  }
  if (status === 401) {
    return stop(
      "unauthorized",
      key.current() === null
        ? `${said}: it wants a key; set ${key.variable}`
        : `${said}: the key in ${key.variable} is not accepted; get one from ${keyFrom}`,
    );
  }
  if (status === 403) {
    return stop("forbidden", `${said}: the key in ${key.variable} may not use ${wireModel}; see ${keyFrom}`);
  }
  if (status === 404 || status === 405 || status === 410) {
    return stop(
      "not_found",
      `${said}: no model ${wireModel} at ${settings.baseUrl}; mend EMBEDD_MODEL, EMBEDD_DEPLOYMENT or EMBEDD_BASE_URL`,
    );
  }
  if (status === 400 || status === 413 || status === 422) {
    if (param === "encoding_format") return { ...refusedInput(said), meaning: "base64" };
    if (
      (typeof param === "string" && REQUEST_PARAMS.has(param)) ||
      (code !== null && REQUEST_CODES.has(code))
    ) {
      return badRequest(said);
    }
    const named =
      (typeof param === "string" && param.startsWith("input")) || (code !== null && INPUT_CODES.has(code));
    return { ...refusedInput(said), meaning: named || status === 413 ? "input" : "unclear" };
  }
  if (status === 408 || status === 409 || status === 425 || status >= 500) {
    return passing("unavailable", said, { wait, overload: status === 503 && wait !== null });
  }
  return stop("bad_request", said);
}

/** The same request would be refused whatever its texts are. */
export function badRequest(said: string): Failure {
  return stop(
    "bad_request",
    `${said}: it refuses the request whatever its texts; mend EMBEDD_MODEL or EMBEDD_DIMENSIONS`,
  );
}

export function wrongDimensions(settings: ApiSettings, asked: number, got: number): Failure {
  const { wireModel } = settings;
  const message = `${wireModel} was asked for ${asked} dimensions and made ${got}: a column of vector(${got}) fits, or set EMBEDD_DIMENSIONS or EMBEDD_MODEL`;
  return { ...stop("wrong_dimensions", message), maybeSpent: true };
}

export function unusableVector(model: string): EmbeddError {
  return new EmbeddError(`${model} returned a vector that is zero or not finite`, {
    kind: "row",
    code: "unusable_vector",
  });
}

export function tooLong(model: string, limit: number): EmbeddError {
  return new EmbeddError(`the text has more than the ${limit} tokens that ${model} reads`, {
    kind: "row",
    code: "too_long",
  });
}

function refusedInput(said: string): Omit<Failure, "meaning"> {
  const error = new EmbeddError(said, { kind: "row", code: "refused_input" });
  return { error, overload: false, maybeSpent: false };
}

interface PassingOptions {
  wait?: number | null;
  overload?: boolean;
  maybeSpent?: boolean;
}

function passing(code: ErrorCode, message: string, options: PassingOptions = {}): Failure {
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

/** What is repeated of a server's words: a code that is known, since an unknown one may be anything. */
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

/** The server's name for the request, by which its support can find it. */
function requestId(value: unknown): string {
  return typeof value === "string" && /^(req_)?[\da-f-]{16,64}$/i.test(value) ? ` (request ${value})` : "";
}

/** Such as ECONNRESET, which `fetch` hides some causes deep. */
function systemCode(thrown: unknown): string | null {
  for (let error = thrown, depth = 0; error instanceof Error && depth < 5; error = error.cause, depth++) {
    const { code } = error as NodeJS.ErrnoException;
    if (typeof code === "string" && /^[A-Z][A-Z0-9_]+$/.test(code)) return code;
    if (error instanceof AggregateError && error.errors.length > 0) return systemCode(error.errors[0]);
  }
  return null;
}
