import { setMaxListeners } from "node:events";
import { setTimeout as timeout } from "node:timers/promises";

/** Node.js fires longer timers at once. */
const LONGEST_MS = 2 ** 31 - 1;

/** Waits for `ms`. An abort ends the wait early; it is not an error. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await timeout(Math.min(ms, LONGEST_MS), undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    if (signal?.aborted !== true) throw error;
  }
}

/** Waits for work to end; an abort ends the wait early. */
export async function untilDone(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  let onAbort = (): void => undefined;
  const aborted = new Promise<void>((resolve) => (onAbort = resolve));
  signal.addEventListener("abort", onAbort, { once: true });
  await Promise.race([work, aborted]);
  signal.removeEventListener("abort", onAbort);
}

/** Waits until work ends or fails, but no longer than `ms`. The timer does not keep the process alive. */
export async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  await Promise.race([work.catch(() => undefined), timeout(ms, undefined, { ref: false })]);
}

/**
 * Runs work with a signal that follows others for as long as the work takes. `AbortSignal.any` would leave an entry on
 * each of them that Node.js 20 never removes, and those of a worker live as long as it does.
 */
export async function withAnyOf<T>(
  sources: readonly AbortSignal[],
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const any = new AbortController();
  const follow = (event: Event): void => {
    any.abort((event.target as AbortSignal).reason);
  };
  for (const source of sources) {
    if (source.aborted) any.abort(source.reason);
    // Many calls may follow one signal at once.
    setMaxListeners(0, source);
    source.addEventListener("abort", follow, { once: true });
  }
  try {
    return await work(any.signal);
  } finally {
    for (const source of sources) source.removeEventListener("abort", follow);
  }
}
