import { APIConnectionError, APIError } from "openai";
import type { ErrorCode } from "../../error-codes.js";
import { EmbeddError } from "../../errors.js";
import { WrongAnswer } from "./answer.js";
import { safeName } from "./answered-model.js";
import { LONGEST_MS, requestedWaitMs } from "./headers.js";
import {
  INPUT_CODES,
  QUOTA_CODES,
  REQUEST_CODES,
  REQUEST_PARAMS,
  known,
  requestId,
  saysTooLong,
  saysTooManyCodings,
  systemCode,
} from "./safe-parts.js";
import { refusedLength } from "./text-errors.js";
import type { ApiSettings } from "./settings.js";

/**
 * What a failed request means. It never repeats the server's message, which can quote an input, and never
 * carries the SDK's error as its cause, since that holds headers.
 */
export interface Failure {
  error: EmbeddError;
  /**
   * `retry`: transient. `doubtful`: transient, or caused by a text or by the size of the request. `stop`: lasts until
   * someone fixes it, or for hours. `input`: an input is at fault. `unclear`: an input or the whole request is at
   * fault. `base64`: the server supports only floats.
   */
  meaning: "retry" | "doubtful" | "stop" | "input" | "unclear" | "base64";
  /** The server is overloaded. */
  overload: boolean;
  /** They can report rate limits. */
  headers?: Headers;
  /** The HTTP status of the answer. */
  status?: number;
  /** Whether the request was written to a connection. */
  sent: boolean;
  /** Whether the server may have computed and billed the request. */
  maybeSpent: boolean;
}

/** How long to wait after a rejected key or a wrong URL. */
export const STOP_MS = 60_000;
/** An account that is out of quota is asked again after a day, even if the server requests a longer wait. */
const LONGEST_QUOTA_MS = 86_400_000;

type Named = Pick<ApiSettings, "baseUrl" | "wireModel" | "inputTokens" | "key" | "keyFrom" | "timeoutMs">;

/** Classifies what a request threw. @param sent whether the request was written to a connection */
export function classify(
  thrown: unknown,
  settings: Named,
  { timedOut, sent }: { timedOut: boolean; sent: boolean },
): Failure {
  const host = new URL(settings.baseUrl).host;
  if (timedOut) {
    const late = sent ? "did not answer" : "could not be reached";
    return lost("timeout", `${host} ${late} within ${settings.timeoutMs} ms`, sent);
  }
  if (thrown instanceof WrongAnswer) {
    return lost("wrong_answer", `${host} returned ${thrown.message}`, true);
  }
  if (thrown instanceof APIError && !(thrown instanceof APIConnectionError) && thrown.status !== undefined) {
    const answered = thrown as StatusError;
    return { ...classifyStatus(answered, settings, host), status: answered.status };
  }
  if (thrown instanceof SyntaxError) {
    return lost("wrong_answer", `${host} returned invalid JSON; check EMBEDD_BASE_URL`, true);
  }
  if (saysTooManyCodings(thrown)) {
    return lost(
      "wrong_answer",
      `${host} returned an answer with too many content codings; check EMBEDD_BASE_URL`,
      true,
    );
  }
  const code = systemCode(thrown);
  const via = code === "UND_ERR_ABORTED" ? "; the proxy refused it, check HTTPS_PROXY and HTTP_PROXY" : "";
  return lost(
    "unreachable",
    `the connection to ${host} failed${code === null ? "" : ` (${code})`}${via}`,
    sent,
  );
}

type StatusError = APIError & { status: number };

function classifyStatus(thrown: StatusError, settings: Named, host: string): Failure {
  const { status } = thrown;
  const code = known(thrown.code) ?? known(thrown.type);
  const { param } = thrown;
  const requested = thrown.headers === undefined ? null : requestedWaitMs(thrown.headers, Date.now());
  const wait = requested === null ? null : Math.min(requested, LONGEST_MS);
  const quotaWait = Math.min(requested ?? LONGEST_MS, LONGEST_QUOTA_MS);
  const answered = `${host} answered ${status}${code === null ? "" : ` ${code}`}${requestId(thrown.requestID)}`;
  const { key, keyFrom, wireModel, inputTokens } = settings;

  if (status >= 300 && status < 400) {
    return redirected(answered, settings.baseUrl, thrown.headers?.get("location") ?? "");
  }
  if (status === 402 || (code !== null && QUOTA_CODES.has(code))) {
    return stop("quota", `${answered}: the account's quota is used up`, quotaWait);
  }
  if (status === 429 || (status === 403 && wait !== null)) {
    const daily = thrown.headers?.get("x-ratelimit-type")?.includes("ByDay") === true;
    if (daily) return stop("quota", `${answered}: the day's quota is used up`, quotaWait);
    if (wait === LONGEST_MS) return stop("quota", `${answered}: a quota is used up`, wait);
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
  const long =
    (code === "context_length_exceeded" ||
      code === "string_above_max_length" ||
      saysTooLong(thrown.message)) &&
    (status === 400 || status === 413 || status === 422 || status === 500);
  // Where embedd counts the server's tokens, the text was cut before; then something else is wrong with it.
  if (long && inputTokens === null)
    return refusedLength(`${answered}, model ${wireModel}: the text is too long`);
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
  if (status === 408 || status === 409 || status === 425 || status === 424 || status >= 500) {
    const overload = status === 503 && wait !== null;
    const failure = transient("unavailable", answered, { wait, overload });
    return (status >= 500 || status === 424) && !overload ? { ...failure, meaning: "doubtful" } : failure;
  }
  return stop("bad_request", answered);
}

/** A redirect would carry the key, the headers and the texts to a server that nobody named. */
function redirected(answered: string, baseUrl: string, location: string): Failure {
  const target = URL.canParse(location, baseUrl) ? new URL(location, baseUrl).origin : "no address";
  const message = `${answered}: it redirects to ${target}, and embedd follows no redirect; set EMBEDD_BASE_URL to the server that answers`;
  const failure = stop("redirect", message);
  const error = new EmbeddError(message, {
    kind: "configuration",
    code: "redirect",
    retryAfterMs: STOP_MS,
    hint: "echo $EMBEDD_BASE_URL",
  });
  return { ...failure, error };
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

export function wrongModel(settings: ApiSettings, got: string): Failure {
  const host = new URL(settings.baseUrl).host;
  const message = `${host} answered with ${safeName(got)} where ${settings.model} was asked for; set EMBEDD_MODEL or EMBEDD_DEPLOYMENT to what it runs`;
  return { ...stop("wrong_model", message), maybeSpent: true };
}

function refusedInput(answered: string): Omit<Failure, "meaning"> {
  const error = new EmbeddError(answered, { kind: "row", code: "refused_input" });
  return { error, overload: false, sent: true, maybeSpent: false };
}

/** The server answered a harmless text, but with nothing usable. */
export function unusableProbe({ message }: EmbeddError): Failure {
  return lost("wrong_answer", `${message} for a harmless text`, true);
}

interface TransientOptions {
  wait?: number | null;
  overload?: boolean;
}

function transient(code: ErrorCode, message: string, options: TransientOptions = {}): Failure {
  const { wait = null, overload = false } = options;
  return {
    error: new EmbeddError(message, { kind: "provider", code, ...(wait !== null && { retryAfterMs: wait }) }),
    meaning: "retry",
    overload,
    sent: true,
    maybeSpent: false,
  };
}

/** No usable answer came. A server that was never asked says nothing about the texts, and bills nothing. */
function lost(code: ErrorCode, message: string, sent: boolean): Failure {
  return { ...transient(code, message), meaning: sent ? "doubtful" : "retry", sent, maybeSpent: sent };
}

function stop(code: ErrorCode, message: string, retryAfterMs = STOP_MS): Failure {
  return {
    error: new EmbeddError(message, { kind: "provider", code, retryAfterMs }),
    meaning: "stop",
    overload: false,
    sent: true,
    maybeSpent: false,
  };
}
