import { setTimeout as timeout } from "node:timers/promises";

/** Waits; an abort ends the wait early and is no error. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await timeout(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    if (signal?.aborted !== true) throw error;
  }
}
