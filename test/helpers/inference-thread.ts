import { once } from "node:events";
import type { Worker } from "node:worker_threads";
import { waitFor } from "./wait.js";

/** Creates a local provider, and returns the thread in which it computes. */
export async function withThread<T>(create: () => Promise<T>): Promise<{ provider: T; thread: Worker }> {
  const started = once(process, "worker") as Promise<[Worker]>;
  const provider = await create();
  const [thread] = await started;
  return { provider, thread };
}

/**
 * Resolves when the thread has computed for 20 ms from now on: a call made just before is past its
 * tokenization then.
 */
export async function untilComputing(thread: Worker): Promise<void> {
  const busyMs = (): number => thread.performance.eventLoopUtilization().active;
  const before = busyMs();
  await waitFor(() => busyMs() > before + 20, { what: "the thread to compute", intervalMs: 1 });
}
