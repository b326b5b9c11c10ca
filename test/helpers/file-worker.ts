import { afterAll, beforeAll } from "vitest";
import { createWorker } from "#embedd/worker/worker.js";
import type { Worker } from "#embedd/worker/worker.js";
import type { TestDatabase } from "./database.js";
import { hashProvider } from "./providers.js";

/** A poll so rare that a row is found only if its writer wakes the worker. */
export const NO_POLL_MS = 3_600_000;

/** One worker without a poll for all tests of a file; call it after `useDatabase`. `texts` is what it embedded. */
export function useWorker(db: TestDatabase): { readonly texts: readonly string[] } {
  const provider = hashProvider();
  let worker: Worker | undefined;
  beforeAll(async () => {
    worker = await createWorker({ databaseUrl: db.url, provider, pollIntervalMs: NO_POLL_MS });
  });
  afterAll(() => worker?.stop());
  return provider;
}
