import { onTestFinished } from "vitest";
import type { Provider } from "#embedd/providers/provider.js";
import { createWorker } from "#embedd/worker/worker.js";
import type { Worker } from "#embedd/worker/worker.js";
import type { WorkerOptions } from "#embedd/worker/worker-options.js";
import type { TestDatabase } from "./database.js";

/** A poll so rare that a row is found only if its writer wakes the worker. */
export const NO_POLL_MS = 3_600_000;

/**
 * Longer than any test waits, so that none passes because of a timer that makes up for what the worker missed: a lost
 * wake-up, a lease that nobody released, a row charged for another's fault, a deaf listener, a model that left.
 */
export const WITHOUT_TIMERS = {
  pollIntervalMs: NO_POLL_MS,
  leaseMs: 3_600_000,
  retryDelayMs: 3_600_000,
  listenerProofMs: 3_600_000,
  takeoverMs: 3_600_000,
};

/**
 * Starts a worker on the test's database; it stops when the test ends. Its timers are `WITHOUT_TIMERS`. It computes every vector, unless
 * `reuse` lets it take cached vectors of other tests of the file.
 */
export async function startTestWorker(
  db: TestDatabase,
  provider: Provider,
  options: Partial<WorkerOptions> = {},
): Promise<Worker> {
  const worker = await createWorker({
    databaseUrl: db.url,
    provider,
    reuse: false,
    ...WITHOUT_TIMERS,
    ...options,
  });
  onTestFinished(() => worker.stop());
  return worker;
}
