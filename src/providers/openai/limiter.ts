import { EmbeddError } from "../../errors.js";
import { rateWindow } from "./headers.js";

/**
 * Limits the requests in flight across all calls of a provider. Additive increase, multiplicative decrease:
 * each success raises the limit by a fraction of one; a 429 halves it, once per group of requests that were in
 * flight together. It never exceeds the remaining rate limits that the server reported, minus what was sent since.
 */
export interface Limiter {
  /** How many requests may be in flight now; an integer, at least 1. */
  readonly limit: number;
  /**
   * Waits for a slot, first come, first served.
   * @throws EmbeddError of kind `provider` if the server's limits would make it wait too long
   * @throws the signal's reason when aborted
   */
  acquire(tokens: number, signal: AbortSignal): Promise<Slot>;
}

export interface Slot {
  /** The request was answered; the headers can report remaining limits. */
  succeeded(headers: Headers): void;
  /** The server is overloaded and asks for a pause; the headers can report remaining limits. */
  overloaded(pauseMs: number, headers?: Headers): void;
  /** Call as soon as the request is no longer in flight, with any outcome. Idempotent. */
  release: () => void;
}

interface Waiter {
  tokens: number;
  start: () => void;
  refuse: (error: EmbeddError) => void;
}

interface Window {
  remaining: number;
  limit: number | null;
  resetAt: number;
}

/** A request that would wait longer is refused instead, so that its caller can free what it holds. */
export const LONGEST_WAIT_MS = 20_000;

export function createLimiter(
  max: number,
  host: string,
  now: () => number = () => performance.now(),
): Limiter {
  const queue: Waiter[] = [];
  const windows: { requests: Window | null; tokens: Window | null } = { requests: null, tokens: null };
  const sent = { requests: 0, tokens: 0 };
  let limit = max;
  let inFlight = 0;
  let pausedUntil = 0;
  let lastDecrease = -Infinity;
  let timer: NodeJS.Timeout | undefined;

  /** The earliest time at which the server's limits allow a request with this many tokens. */
  function earliestStart(tokens: number): number {
    return Math.max(pausedUntil, available(windows.requests, 1), available(windows.tokens, tokens));
  }

  /** Assumes that a limit refills evenly until its reset. */
  function available(window: Window | null, need: number): number {
    if (window === null || now() >= window.resetAt) return 0;
    const missing = Math.min(need, window.limit ?? need) - window.remaining;
    if (missing <= 0) return 0;
    const used = window.limit === null ? missing : Math.max(window.limit - window.remaining, missing);
    return now() + (window.resetAt - now()) * (missing / used);
  }

  function startWaiting(): void {
    clearTimeout(timer);
    for (;;) {
      const [next] = queue;
      if (next === undefined || inFlight >= Math.floor(limit)) return;
      const waitMs = earliestStart(next.tokens) - now();
      if (waitMs > LONGEST_WAIT_MS) {
        queue.shift();
        next.refuse(
          new EmbeddError(`${host} has reached its limit of requests or tokens`, {
            kind: "provider",
            code: "rate_limited",
            retryAfterMs: Math.ceil(waitMs),
          }),
        );
      } else if (waitMs > 0) {
        timer = setTimeout(startWaiting, Math.ceil(waitMs));
        return;
      } else {
        queue.shift();
        inFlight++;
        spend(windows.requests, 1);
        spend(windows.tokens, next.tokens);
        sent.requests++;
        sent.tokens += next.tokens;
        next.start();
      }
    }
  }

  /** Subtracts what was sent after the answered request, which the server may not have counted yet. */
  function recordLimits(headers: Headers, before: typeof sent): void {
    for (const what of ["requests", "tokens"] as const) {
      const reported = rateWindow(headers, what);
      if (reported === null) continue;
      windows[what] = { ...reported, resetAt: now() + reported.resetMs };
      spend(windows[what], sent[what] - before[what]);
    }
  }

  function createSlot(): Slot {
    const startedAt = now();
    const before = { ...sent };
    let released = false;
    return {
      succeeded(headers) {
        // A success proves nothing about the limit while most slots are free.
        if (inFlight >= limit / 2) limit = Math.min(max, limit + 1 / limit);
        recordLimits(headers, before);
      },
      overloaded(pauseMs, headers) {
        if (headers !== undefined) recordLimits(headers, before);
        pausedUntil = Math.max(pausedUntil, now() + pauseMs);
        // A request sent before the limit was last halved says nothing about the new limit.
        if (startedAt < lastDecrease) return;
        limit = Math.max(1, limit / 2);
        lastDecrease = now();
      },
      release() {
        if (released) return;
        released = true;
        inFlight--;
        startWaiting();
      },
    };
  }

  return {
    get limit() {
      return Math.floor(limit);
    },
    acquire(tokens, signal) {
      signal.throwIfAborted();
      return new Promise((resolve, reject) => {
        const onAbort = (): void => {
          queue.splice(queue.indexOf(waiter), 1);
          reject(signal.reason as Error);
          startWaiting();
        };
        const waiter: Waiter = {
          tokens,
          start() {
            signal.removeEventListener("abort", onAbort);
            resolve(createSlot());
          },
          refuse(error) {
            signal.removeEventListener("abort", onAbort);
            reject(error);
          },
        };
        signal.addEventListener("abort", onAbort, { once: true });
        queue.push(waiter);
        startWaiting();
      });
    },
  };
}

function spend(window: Window | null, amount: number): void {
  if (window !== null) window.remaining = Math.max(0, window.remaining - amount);
}
