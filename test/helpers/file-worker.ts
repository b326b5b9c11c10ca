import { afterAll, beforeAll } from "vitest";
import { createWorker } from "#embedd/worker/worker.js";
import type { Worker } from "#embedd/worker/worker.js";
import type { TestDatabase } from "./database.js";
import { hashProvider } from "./providers.js";
import { WITHOUT_TIMERS } from "./worker.js";

/** One worker without a poll for all tests of a file; call it after `useDatabase`. `texts` is what it embedded. */
export function useWorker(db: TestDatabase): { readonly texts: readonly string[] } {
  const provider = hashProvider();
  let worker: Worker | undefined;
  beforeAll(async () => {
    worker = await createWorker({ databaseUrl: db.url, provider, ...WITHOUT_TIMERS });
  });
  afterAll(() => worker?.stop());
  return provider;
}
