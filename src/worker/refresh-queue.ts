import { messageOf } from "../errors.js";
import type { Logger } from "../logger.js";
import { sleep } from "../sleep.js";

/** Between two refreshes: anyone can notify, and as often as they like. While requests keep coming, it doubles. */
const MIN_REFRESH_MS = 200;
const MAX_REFRESH_MS = 1_600;

export interface RefreshQueue {
  /** Runs a refresh after the one that is running. Requests that come before it starts share it. */
  request: () => void;
  /** Starts no more. Resolves when none is running. */
  stop: () => Promise<void>;
}

/** Runs refreshes one at a time, a few per second, or one in 1.6 s while requests keep coming. Failures are only logged. */
export function createRefreshQueue(refresh: () => Promise<void>, log: Logger): RefreshQueue {
  const stopping = new AbortController();
  let running: Promise<void> = Promise.resolve();
  let queued = false;
  let lastAt = -Infinity;
  let pauseMs = MIN_REFRESH_MS;

  async function next(): Promise<void> {
    const ms = Math.max(lastAt + pauseMs - performance.now(), 0);
    pauseMs = ms > 0 ? Math.min(2 * pauseMs, MAX_REFRESH_MS) : MIN_REFRESH_MS;
    if (ms > 0) await sleep(ms, stopping.signal);
    queued = false;
    if (stopping.signal.aborted) return;
    lastAt = performance.now();
    await refresh().catch((error: unknown) => {
      log.warn({ cause: messageOf(error) }, "could not read the pipelines");
    });
  }

  return {
    request() {
      if (queued) return;
      queued = true;
      running = running.then(next);
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
