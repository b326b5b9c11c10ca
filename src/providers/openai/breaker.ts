import { backoffMs } from "../../backoff.js";
import { EmbeddError } from "../../errors.js";

/**
 * A circuit breaker, shared by all calls of a provider.
 *
 *   closed ── 10 failures in a row, or one that needs a person or hours ──▶ open
 *     ▲                                                                       │ the wait is over
 *     └── success ── half-open: one probe is sent, all others are refused ◀───┘
 *                       └── failure: open again, for longer
 *
 * Off-the-shelf breakers only count failures, and do not expose why or for how long they are open.
 */
export interface Breaker {
  /** Whether two more failures open it. */
  readonly nearlyOpen: boolean;
  /** Whether the next request is the probe. */
  readonly halfOpen: boolean;
  /** Call before a request. @throws EmbeddError while open: the cause, with the remaining time to wait */
  enter(): void;
  /** After each `enter` that did not throw, call one of these four. */
  succeeded(): void;
  /** A transient failure. */
  failed(error: EmbeddError): void;
  /** A failure that makes further requests pointless for `ms`. */
  stop(error: EmbeddError, ms: number): void;
  /** The outcome says nothing about the server. */
  abandoned(): void;
}

/** If 1 in 5 requests fails at random, 10 in a row fail once in ten million requests. */
const FAILURES_IN_A_ROW = 10;
const OPEN_BASE_MS = 1_000;
const OPEN_CAP_MS = 60_000;
/** How long callers wait while a probe is in flight. */
const PROBE_MS = 1_000;

export function createBreaker(now: () => number = () => performance.now(), random = Math.random): Breaker {
  let open: { error: EmbeddError; until: number; probing: boolean } | null = null;
  let failures = 0;
  let openings = 0;

  function openFor(error: EmbeddError, ms: number): void {
    open = { error, until: now() + ms, probing: false };
    failures = 0;
  }

  return {
    get nearlyOpen() {
      return open === null && failures >= FAILURES_IN_A_ROW - 2;
    },
    get halfOpen() {
      return open !== null && !open.probing && now() >= open.until;
    },
    enter() {
      if (open === null) return;
      const left = open.probing ? PROBE_MS : open.until - now();
      if (left <= 0) {
        open.probing = true;
        return;
      }
      const { message, kind, code, hint } = open.error;
      throw new EmbeddError(message, {
        kind,
        code,
        ...(hint !== undefined && { hint }),
        retryAfterMs: Math.ceil(left),
      });
    },
    succeeded() {
      open = null;
      failures = openings = 0;
    },
    failed(error) {
      failures++;
      if (open?.probing === true || failures >= FAILURES_IN_A_ROW) {
        openFor(error, OPEN_BASE_MS / 2 + backoffMs(openings++, OPEN_BASE_MS, OPEN_CAP_MS, random));
      }
    },
    stop(error, ms) {
      openFor(error, ms);
    },
    abandoned() {
      if (open?.probing === true) open.probing = false;
    },
  };
}
