import { EmbeddError } from "../../errors.js";
import { rateWindow } from "./headers.js";

/**
 * How many requests are in flight, over all calls of a provider. Additive increase, multiplicative decrease:
 * each success adds a share of one, a 429 halves, once for all requests that were in flight together. What the
 * server says is left of its limits, less what was sent since, is never overdrawn.
 */
export interface Limiter {
  /** How many may be in flight now; whole, at least 1. */
  readonly limit: number;
  /**
   * Waits for a place; first come, first served.
   * @throws EmbeddError of kind `provider` where the server's limits leave none for a long time
   * @throws the signal's reason when aborted
   */
  acquire(tokens: number, signal: AbortSignal): Promise<Place>;
}

export interface Place {
  /** It was answered; the headers may say what is left. */
  succeeded(headers: Headers): void;
  /** The server has too much to do, and wants nothing for a while; the headers may say what is left. */
  overloaded(pauseMs: number, headers?: Headers): void;
  /** Always, as soon as nothing is in flight. Safe to call twice. */
  leave: () => void;
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

/** Who would have to wait for longer is told, and frees what it holds. */
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
  let lastCut = -Infinity;
  let timer: NodeJS.Timeout | undefined;

  /** When a request of so many tokens may start, by what the server said. */
  function startsAt(tokens: number): number {
    return Math.max(pausedUntil, available(windows.requests, 1), available(windows.tokens, tokens));
  }

  /** Limits refill evenly until their reset. */
  function available(window: Window | null, need: number): number {
    if (window === null || now() >= window.resetAt) return 0;
    const missing = Math.min(need, window.limit ?? need) - window.remaining;
    if (missing <= 0) return 0;
    const used = window.limit === null ? missing : Math.max(window.limit - window.remaining, missing);
    return now() + (window.resetAt - now()) * (missing / used);
  }

  function pump(): void {
    clearTimeout(timer);
    for (;;) {
      const [next] = queue;
      if (next === undefined || inFlight >= Math.floor(limit)) return;
      const waitMs = startsAt(next.tokens) - now();
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
        timer = setTimeout(pump, Math.ceil(waitMs));
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

  /** The server may not have counted what was sent after the request that it answers. */
  function hear(headers: Headers, before: typeof sent): void {
    for (const what of ["requests", "tokens"] as const) {
      const heard = rateWindow(headers, what);
      if (heard === null) continue;
      windows[what] = { ...heard, resetAt: now() + heard.resetMs };
      spend(windows[what], sent[what] - before[what]);
    }
  }

  function place(): Place {
    const startedAt = now();
    const before = { ...sent };
    let left = false;
    return {
      succeeded(headers) {
        // Places that nobody wanted prove nothing.
        if (inFlight >= limit / 2) limit = Math.min(max, limit + 1 / limit);
        hear(headers, before);
      },
      overloaded(pauseMs, headers) {
        if (headers !== undefined) hear(headers, before);
        pausedUntil = Math.max(pausedUntil, now() + pauseMs);
        // Those that were sent before the last cut say nothing about what is in flight since.
        if (startedAt < lastCut) return;
        limit = Math.max(1, limit / 2);
        lastCut = now();
      },
      leave() {
        if (left) return;
        left = true;
        inFlight--;
        pump();
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
          pump();
        };
        const waiter: Waiter = {
          tokens,
          start() {
            signal.removeEventListener("abort", onAbort);
            resolve(place());
          },
          refuse(error) {
            signal.removeEventListener("abort", onAbort);
            reject(error);
          },
        };
        signal.addEventListener("abort", onAbort, { once: true });
        queue.push(waiter);
        pump();
      });
    },
  };
}

function spend(window: Window | null, amount: number): void {
  if (window !== null) window.remaining = Math.max(0, window.remaining - amount);
}
