import { setTimeout as timeout } from "node:timers/promises";
import { backoffMs } from "../../backoff.js";
import type { RequestUsage, UsageMeter } from "../provider.js";
import { dimensionsOf } from "./answer.js";
import type { Breaker } from "./breaker.js";
import type { Client, WireRequest } from "./client.js";
import { badRequest, classify, STOP_MS, wrongDimensions } from "./errors.js";
import type { Failure } from "./errors.js";
import { LONGEST_WAIT_MS } from "./limiter.js";
import type { Limiter } from "./limiter.js";
import type { ApiSettings } from "./settings.js";

/** Makes requests until one is answered or there is no sense in another. */
export interface Requester {
  /**
   * @returns a vector for each text
   * @throws EmbeddError `row` when the server refuses an input, `provider` for all else
   * @throws the signal's reason when aborted
   */
  send(request: EmbeddingRequest): Promise<Float32Array[]>;
}

export interface EmbeddingRequest {
  texts: readonly string[];
  tokens: number;
  /** How many of the texts were cut. */
  cutTexts?: number;
  /** What the vectors must have; null: not known. */
  dimensions: number | null;
  signal: AbortSignal;
  meter?: UsageMeter | undefined;
}

export interface RequesterParts {
  settings: ApiSettings;
  client: Client;
  breaker: Breaker;
  limiter: Limiter;
  /** Before the second attempt, with full jitter; doubles each time. @default 250 */
  retryBaseMs?: number;
}

/** A request that fails more often is left to its caller. With 1 in 5 failing at random, 1 in 3,000. */
const ATTEMPTS = 5;
const RETRY_BASE_MS = 250;
const RETRY_CAP_MS = 8_000;
/** So long an answer to other texts proves that a refusal is about the text. */
const PROOF_MS = 60_000;
const HARMLESS = "embedd";

export function createRequester(parts: RequesterParts): Requester {
  const { settings, client, breaker, limiter, retryBaseMs = RETRY_BASE_MS } = parts;
  let encoding: WireRequest["encoding"] = "base64";
  /** By dimensions, when a request last succeeded. */
  const proofs = new Map<number | null, number>();

  async function send(request: EmbeddingRequest): Promise<Float32Array[]> {
    for (let attempt = 1; ; attempt++) {
      const outcome = await once(request);
      if ("vectors" in outcome) return outcome.vectors;
      const { failure, again } = outcome;
      if (again) continue;
      if (failure.meaning === "unclear" || failure.meaning === "base64") {
        const fault = await findFault(request);
        if (fault === "encoding") continue;
        if (fault === "request") {
          const { error } = badRequest(failure.error.message);
          breaker.stop(error, STOP_MS);
          throw error;
        }
      }
      const told = failure.error.retryAfterMs ?? 0;
      if (failure.meaning !== "retry" || attempt >= ATTEMPTS || told > LONGEST_WAIT_MS) throw failure.error;
      // What the server asked for is waited for by the limiter, for all requests.
      await pause(Math.max(backoffMs(attempt - 1, retryBaseMs, RETRY_CAP_MS), told), request.signal);
    }
  }

  type Outcome = { vectors: Float32Array[] } | { failure: Failure; again: boolean };

  async function once(request: EmbeddingRequest): Promise<Outcome> {
    const { tokens, signal, meter } = request;
    const reservation = await meter?.reserve(tokens);
    let spent: RequestUsage = { requests: 0, tokens: 0 };
    try {
      const place = await limiter.acquire(tokens, signal);
      try {
        breaker.enter();
        spent = { requests: 1, tokens };
        const result = await attempt(request, place.leave);
        if ("answer" in result) {
          const { vectors, tokens: charged, headers } = result.answer;
          spent = { requests: 1, tokens: charged ?? tokens, cutTexts: request.cutTexts ?? 0 };
          place.succeeded(headers);
          breaker.succeeded();
          proofs.set(request.dimensions, performance.now());
          return { vectors };
        }
        const { failure } = result;
        if (!failure.maybeSpent) spent.tokens = 0;
        if (failure.overload) place.overloaded(failure.error.retryAfterMs ?? 0, failure.headers);
        return { failure, again: settle(failure) };
      } finally {
        place.leave();
      }
    } finally {
      reservation?.settle(spent);
    }
  }

  /** What a failure means for the next requests. @returns whether this one is to be made again at once */
  function settle(failure: Failure): boolean {
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

  type Attempt = { answer: Awaited<ReturnType<Client["create"]>> } | { failure: Failure };

  async function attempt(
    { texts, dimensions, signal }: EmbeddingRequest,
    onReceived: () => void,
  ): Promise<Attempt> {
    const abort = new AbortController();
    const onAbort = (): void => abort.abort();
    signal.addEventListener("abort", onAbort, { once: true });
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      abort.abort();
    }, settings.timeoutMs);
    try {
      signal.throwIfAborted();
      const answer = await client.create(
        { texts, dimensions: asked(dimensions), encoding },
        abort.signal,
        onReceived,
      );
      const got = dimensionsOf(answer);
      if (dimensions !== null && got !== null && got !== dimensions) {
        return { failure: wrongDimensions(settings, dimensions, got) };
      }
      return { answer };
    } catch (error) {
      if (signal.aborted) {
        breaker.abandoned();
        throw signal.reason;
      }
      return { failure: classify(error, settings, timedOut ? settings.timeoutMs : null) };
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Models that make one number only are not asked for it, since many servers refuse the very word. */
  function asked(dimensions: number | null): number | null {
    if (dimensions === null || (!settings.shortens && settings.askedDimensions === null)) return null;
    return dimensions === settings.dimensions ? settings.askedDimensions : dimensions;
  }

  /** What a refused request's fault is, by the last answer to another one like it, or by a trial of a harmless text. */
  async function findFault(request: EmbeddingRequest): Promise<"input" | "request" | "encoding"> {
    const at = proofs.get(request.dimensions);
    if (at !== undefined && performance.now() - at < PROOF_MS) return "input";
    if (await trial(request)) return "input";
    if (encoding === "float") return "request";
    encoding = "float";
    if (await trial(request)) return "encoding";
    encoding = "base64";
    return "request";
  }

  async function trial(request: EmbeddingRequest): Promise<boolean> {
    const outcome = await once({ ...request, texts: [HARMLESS], tokens: 1 });
    if ("vectors" in outcome) return true;
    if (outcome.again) return trial(request);
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
