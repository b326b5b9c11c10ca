import { onTestFinished } from "vitest";
import type { Provider } from "#embedd/providers/provider.js";
import { createWorker } from "#embedd/worker/worker.js";
import type { Worker } from "#embedd/worker/worker.js";
import type { WorkerOptions } from "#embedd/worker/worker-options.js";
import type { TestDatabase } from "./database.js";

/**
 * Starts a worker on the test's database; it stops when the test ends. It computes every vector, unless
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
    ...options,
  });
  onTestFinished(() => worker.stop());
  return worker;
}
