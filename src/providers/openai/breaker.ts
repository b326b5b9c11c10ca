import { backoffMs } from "../../backoff.js";
import { EmbeddError } from "../../errors.js";

/**
 * Whether requests may be made at all, shared by all calls of a provider.
 *
 *   closed ── 10 failures in a row, or one that needs a person or hours ──▶ open until a time
 *     ▲                                                                        │ the time has come
 *     └── success ── probing: one request goes, the others are refused ◀───────┘
 *                       └── failure: open again, for longer
 *
 * Ready-made breakers decide by counts alone and hide why, and for how long, they are open.
 */
export interface Breaker {
  /** Before a request. @throws EmbeddError the reason, with the time that is left, while it is open */
  enter(): void;
  /** Each `enter` that did not throw is followed by one of these. */
  succeeded(): void;
  /** A failure that may pass by itself. */
  failed(error: EmbeddError): void;
  /** A failure after which the next request is not worth making for a time. */
  stop(error: EmbeddError, ms: number): void;
  /** The request came to no end that says anything about the server. */
  abandoned(): void;
}

/** With 1 in 5 requests failing at random, once in ten million. */
const FAILURES_IN_A_ROW = 10;
const OPEN_BASE_MS = 1_000;
const OPEN_CAP_MS = 60_000;
/** A probe is under way; its outcome comes soon. */
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
