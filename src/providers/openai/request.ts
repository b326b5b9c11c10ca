import { backoffMs } from "../../backoff.js";
import { EmbeddError } from "../../errors.js";
import { sleep } from "../../sleep.js";
import type { RequestUsage } from "../provider.js";
import { unusableVector } from "../unusable-vectors.js";
import { attemptRequest } from "./attempt.js";
import { billedTokens } from "./billed-tokens.js";
import type { Breaker } from "./breaker.js";
import type { Client, WireRequest } from "./client.js";
import type { EmbeddingRequest, Requester } from "./embedding-request.js";
import { badRequest, STOP_MS, unusableProbe } from "./errors.js";
import type { Failure } from "./errors.js";
import { createLane } from "./lane.js";
import { LONGEST_WAIT_MS } from "./limiter.js";
import type { Limiter, Slot } from "./limiter.js";
import { isProbe, probeOf } from "./probe.js";
import { sendSuspects, wentAway } from "./send-suspects.js";
import type { ApiSettings } from "./settings.js";
import type { Suspects } from "./suspects.js";
import { failedInput } from "./text-errors.js";

export type { EmbeddingRequest, Requester } from "./embedding-request.js";

export interface RequesterParts {
  settings: ApiSettings;
  client: Client;
  breaker: Breaker;
  limiter: Limiter;
  /** Shared with who splits requests. */
  suspects: Suspects;
  /** Called when the server names a model that may be another one. */
  onOtherModel: (answered: string) => void;
  /** The base of the exponential backoff with full jitter. @default 250 */
  retryBaseMs?: number;
}

/** If 1 in 5 requests fails at random, 1 in 3,000 fails this often; fewer for a suspected or a too slow request. */
const ATTEMPTS = 5;
const FEW_ATTEMPTS = 2;
const RETRY_BASE_MS = 250;
const RETRY_CAP_MS = 8_000;
/** After a success this recent, a refusal must be about the text, not about the request. */
const RECENT_SUCCESS_MS = 60_000;

type Outcome = { vectors: Float32Array[] } | { failure: Failure; retryNow: boolean };

export function createRequester(parts: RequesterParts): Requester {
  const { settings, client, breaker, limiter, suspects, onOtherModel, retryBaseMs = RETRY_BASE_MS } = parts;
  const lane = createLane();
  let encoding: WireRequest["encoding"] = "base64";
  let base64Works = false;
  /** When a usable vector last came, by its dimensions. */
  const lastSuccess = new Map<number | null, number>();
  /** A harmless text is on its way to decide whether the breaker opens. */
  let deciding: Promise<void> | null = null;

  /** The texts of a request during which the server went away are suspected. */
  async function send(request: EmbeddingRequest): Promise<Float32Array[]> {
    if (request.mayEnd === true) {
      const sendAsOthers = (suspected: EmbeddingRequest) => send({ ...suspected, mayEnd: false });
      return sendSuspects(request, { suspects, lane, probe, exchange, send: sendAsOthers });
    }
    let ended = false;
    try {
      return await sendWithRetries(request, (failure) => (ended ||= wentAway(failure)));
    } catch (error) {
      if (ended && error instanceof EmbeddError && error.kind === "provider")
        suspects.wentAway(request.texts);
      throw error;
    }
  }

  async function sendWithRetries(
    request: EmbeddingRequest,
    onFailure: (failure: Failure) => void,
  ): Promise<Float32Array[]> {
    let since = performance.now();
    let blamed = 0;
    for (let attempt = 1; ; attempt++) {
      const outcome = await sendOnce(request);
      if ("vectors" in outcome) return outcome.vectors;
      const { failure, retryNow } = outcome;
      onFailure(failure);
      if (retryNow) continue;
      if (failure.meaning === "unclear" || failure.meaning === "base64") {
        const finding =
          answeredSince(request, performance.now() - RECENT_SUCCESS_MS) || (await examine(request));
        if (finding === "floats") continue;
        if (finding !== true) throw refusedAll(finding, failure);
      }
      const few = request.suspected === true || failure.error.code === "timeout";
      if (failure.meaning === "doubtful" && attempt >= (few ? FEW_ATTEMPTS : ATTEMPTS)) {
        const finding = answeredSince(request, since) || (await examine(request));
        if (finding === "floats") continue;
        if (finding !== true) throw finding.meaning === "stop" ? finding.error : failure.error;
        // A text that stands alone is blamed only if it fails between two texts that the server embeds.
        if (request.texts.length > 1 || ++blamed === 2) throw failedInput(failure, request.texts.length);
        since = performance.now();
        continue;
      }
      const waitMs = failure.error.retryAfterMs ?? 0;
      const transient = failure.meaning === "retry" || failure.meaning === "doubtful";
      if (!transient || attempt >= ATTEMPTS || waitMs > LONGEST_WAIT_MS) throw failure.error;
      await sleep(Math.max(backoffMs(attempt - 1, retryBaseMs, RETRY_CAP_MS), waitMs), request.signal);
      request.signal.throwIfAborted();
    }
  }

  /** The server refused a request, and did not embed a harmless text either. */
  function refusedAll(probe: Failure, refused: Failure): Error {
    if (probe.error.kind !== "row") return probe.error;
    const { error } = badRequest(refused.error.message);
    breaker.stop(error, STOP_MS);
    return error;
  }

  async function sendOnce(request: EmbeddingRequest): Promise<Outcome> {
    // A text that the server cannot embed would open the breaker again each time.
    if (breaker.halfOpen && !isProbe(request)) {
      const outcome = await exchange(probeOf(request));
      if ("failure" in outcome) return outcome;
    }
    return exchange(request);
  }

  async function exchange(request: EmbeddingRequest): Promise<Outcome> {
    const { texts, tokens, dimensions, signal, meter } = request;
    const reservation = await meter?.reserve(tokens);
    let spent: RequestUsage = { requests: 0, tokens: 0 };
    let failure: Failure;
    try {
      const slot = await acquire(request);
      const ended = lane.started();
      try {
        breaker.enter();
        spent = { requests: 1, tokens };
        const attempt = { texts, dimensions, encoding, signal };
        const hooks = { onReceived: slot.release, onOtherModel };
        const result = await attemptRequest(client, settings, attempt, hooks).catch((error: unknown) => {
          breaker.abandoned();
          throw error;
        });
        if ("answer" in result) {
          const { vectors, tokens: billed, headers } = result.answer;
          spent = {
            requests: 1,
            tokens: billedTokens(billed, request),
            texts: texts.length,
            cutTexts: request.cutTexts ?? 0,
          };
          slot.succeeded(headers);
          breaker.succeeded();
          base64Works ||= encoding === "base64";
          if (vectors.some((vector) => unusableVector(settings.model, vector) === null))
            lastSuccess.set(dimensions, performance.now());
          return { vectors };
        }
        ({ failure } = result);
        spent = { requests: failure.sent ? 1 : 0, tokens: failure.maybeSpent ? tokens : 0 };
        if (failure.overload) slot.overloaded(failure.error.retryAfterMs ?? 0, failure.headers);
      } finally {
        slot.release();
        ended();
      }
    } finally {
      reservation?.settle(spent);
    }
    return { failure, retryNow: await recordFailure(request, failure) };
  }

  /** Waits for a slot, and until it is clear whether the server is down, or whether a text ends it. */
  async function acquire(request: EmbeddingRequest): Promise<Slot> {
    for (;;) {
      const slot = await limiter.acquire(request.tokens, request.signal);
      const turn = (isProbe(request) ? null : deciding) ?? lane.closed;
      if (turn === null || request.alone === true) return slot;
      slot.release();
      await turn;
    }
  }

  /** Updates encoding, key and breaker for the next requests. @returns whether to retry this one immediately */
  async function recordFailure(request: EmbeddingRequest, failure: Failure): Promise<boolean> {
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
    else if (meaning !== "retry" && meaning !== "doubtful") breaker.succeeded();
    else if ((error.retryAfterMs ?? 0) > LONGEST_WAIT_MS) breaker.stop(error, error.retryAfterMs ?? 0);
    else if (meaning === "doubtful" && breaker.nearlyOpen && !isProbe(request)) await decide(request, error);
    else breaker.failed(error);
    return false;
  }

  /** Lets a harmless text decide whether the breaker opens: texts that fail must not stop the others. */
  async function decide(request: EmbeddingRequest, error: EmbeddError): Promise<void> {
    deciding ??= examine(request)
      .then((finding) => finding === true || finding === "floats")
      .catch(() => false)
      .then((works) => {
        if (!works) breaker.failed(error);
      })
      .finally(() => (deciding = null));
    await deciding;
  }

  const answeredSince = ({ dimensions }: EmbeddingRequest, time: number): boolean =>
    (lastSuccess.get(dimensions) ?? -Infinity) > time;

  /**
   * Finds out whether the server embeds a harmless text. If it never took base64, tries numbers too.
   * @returns true: it does; `floats`: it does, in numbers, which are requested from now on
   */
  async function examine(request: EmbeddingRequest): Promise<true | "floats" | Failure> {
    const failure = await probe(request);
    if (failure === null) return true;
    const refused = failure.status === 500 || failure.error.kind === "row";
    if (encoding === "float" || base64Works || !refused) return failure;
    encoding = "float";
    const floatsFail = (await probe(request)) !== null;
    if (!floatsFail && failure.error.kind === "row") return "floats";
    encoding = "base64";
    if (floatsFail) return failure;
    // The fault may have ended meanwhile.
    if ((await probe(request)) === null) return true;
    encoding = "float";
    return "floats";
  }

  /** @returns null: the server embeds a harmless text */
  async function probe(request: EmbeddingRequest): Promise<Failure | null> {
    const outcome = await exchange(probeOf(request));
    if ("vectors" in outcome) {
      const unusable = outcome.vectors.map((vector) => unusableVector(settings.model, vector))[0] ?? null;
      return unusable === null ? null : unusableProbe(unusable);
    }
    return outcome.retryNow ? probe(request) : outcome.failure;
  }

  return { send };
}
