import { setTimeout as timeout } from "node:timers/promises";
import { backoffMs } from "../../backoff.js";
import type { RequestUsage, UsageMeter } from "../provider.js";
import { attemptRequest } from "./attempt.js";
import type { Breaker } from "./breaker.js";
import type { Client, WireRequest } from "./client.js";
import { badRequest, STOP_MS } from "./errors.js";
import type { Failure } from "./errors.js";
import { LONGEST_WAIT_MS } from "./limiter.js";
import type { Limiter } from "./limiter.js";
import type { ApiSettings } from "./settings.js";

/** Sends requests, with retries where a retry can help. */
export interface Requester {
  /**
   * @returns one vector per text
   * @throws EmbeddError `row` when the server refuses an input, `provider` for every other failure
   * @throws the signal's reason when aborted
   */
  send(request: EmbeddingRequest): Promise<Float32Array[]>;
}

export interface EmbeddingRequest {
  texts: readonly string[];
  tokens: number;
  /** How many of the texts were truncated. */
  cutTexts?: number;
  /** Required of the vectors; null: any. */
  dimensions: number | null;
  signal: AbortSignal;
  meter?: UsageMeter | undefined;
}

export interface RequesterParts {
  settings: ApiSettings;
  client: Client;
  breaker: Breaker;
  limiter: Limiter;
  /** The base of the exponential backoff with full jitter. @default 250 */
  retryBaseMs?: number;
}

/** After this many failures the caller decides. If 1 in 5 requests fails at random, that is 1 in 3,000. */
const ATTEMPTS = 5;
const RETRY_BASE_MS = 250;
const RETRY_CAP_MS = 8_000;
/** After a success this recent, a refusal must be about the text, not about the request. */
const RECENT_SUCCESS_MS = 60_000;
const PROBE_TEXT = "embedd";

type Outcome = { vectors: Float32Array[] } | { failure: Failure; retryNow: boolean };

export function createRequester(parts: RequesterParts): Requester {
  const { settings, client, breaker, limiter, retryBaseMs = RETRY_BASE_MS } = parts;
  let encoding: WireRequest["encoding"] = "base64";
  /** When a request last succeeded, by its dimensions. */
  const lastSuccess = new Map<number | null, number>();

  async function send(request: EmbeddingRequest): Promise<Float32Array[]> {
    for (let attempt = 1; ; attempt++) {
      const outcome = await sendOnce(request);
      if ("vectors" in outcome) return outcome.vectors;
      const { failure, retryNow } = outcome;
      if (retryNow) continue;
      if (failure.meaning === "unclear" || failure.meaning === "base64") {
        const fault = await findFault(request);
        if (fault === "encoding") continue;
        if (fault === "request") {
          const { error } = badRequest(failure.error.message);
          breaker.stop(error, STOP_MS);
          throw error;
        }
      }
      const waitMs = failure.error.retryAfterMs ?? 0;
      if (failure.meaning !== "retry" || attempt >= ATTEMPTS || waitMs > LONGEST_WAIT_MS) throw failure.error;
      await pause(Math.max(backoffMs(attempt - 1, retryBaseMs, RETRY_CAP_MS), waitMs), request.signal);
    }
  }

  async function sendOnce(request: EmbeddingRequest): Promise<Outcome> {
    const { texts, tokens, dimensions, signal, meter } = request;
    const reservation = await meter?.reserve(tokens);
    let spent: RequestUsage = { requests: 0, tokens: 0 };
    try {
      const slot = await limiter.acquire(tokens, signal);
      try {
        breaker.enter();
        spent = { requests: 1, tokens };
        const attempt = { texts, dimensions, encoding, signal };
        const result = await attemptRequest(client, settings, attempt, slot.release).catch(
          (error: unknown) => {
            breaker.abandoned();
            throw error;
          },
        );
        if ("answer" in result) {
          const { vectors, tokens: billed, headers } = result.answer;
          spent = {
            requests: 1,
            tokens: billed ?? tokens,
            texts: texts.length,
            cutTexts: request.cutTexts ?? 0,
          };
          slot.succeeded(headers);
          breaker.succeeded();
          lastSuccess.set(dimensions, performance.now());
          return { vectors };
        }
        const { failure } = result;
        if (!failure.maybeSpent) spent.tokens = 0;
        if (failure.overload) slot.overloaded(failure.error.retryAfterMs ?? 0, failure.headers);
        return { failure, retryNow: recordFailure(failure) };
      } finally {
        slot.release();
      }
    } finally {
      reservation?.settle(spent);
    }
  }

  /** Updates encoding, key and breaker for the next requests. @returns whether to retry this one immediately */
  function recordFailure(failure: Failure): boolean {
    const { error, meaning } = failure;
    if (meaning === "base64" && encoding === "base64") {
      encoding = "float";
      breaker.succeeded();
      return true;
    }
    if ((error.code === "unauthorized" || error.code === "forbidden") && settings.key.reload()) {
      breaker.abandoned();
      return true;
    }
    if (meaning === "stop") breaker.stop(error, error.retryAfterMs ?? STOP_MS);
    else if (meaning !== "retry") breaker.succeeded();
    else if ((error.retryAfterMs ?? 0) > LONGEST_WAIT_MS) breaker.stop(error, error.retryAfterMs ?? 0);
    else breaker.failed(error);
    return false;
  }

  /** Finds out why the server refused a request: from a recent success like it, or by sending a harmless text. */
  async function findFault(request: EmbeddingRequest): Promise<"input" | "request" | "encoding"> {
    const succeededAt = lastSuccess.get(request.dimensions);
    if (succeededAt !== undefined && performance.now() - succeededAt < RECENT_SUCCESS_MS) return "input";
    if (await probe(request)) return "input";
    if (encoding === "float") return "request";
    encoding = "float";
    if (await probe(request)) return "encoding";
    encoding = "base64";
    return "request";
  }

  /** Sends a harmless text. @returns false if the server refuses it too */
  async function probe(request: EmbeddingRequest): Promise<boolean> {
    const outcome = await sendOnce({ ...request, texts: [PROBE_TEXT], tokens: 1, cutTexts: 0 });
    if ("vectors" in outcome) return true;
    if (outcome.retryNow) return probe(request);
    if (outcome.failure.error.kind === "row") return false;
    throw outcome.failure.error;
  }

  return { send };
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await timeout(ms, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}
