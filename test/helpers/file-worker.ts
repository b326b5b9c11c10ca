import { afterAll, beforeAll } from "vitest";
import { createWorker } from "#embedd/worker/worker.js";
import type { Worker } from "#embedd/worker/worker.js";
import type { TestDatabase } from "./database.js";
import { hashProvider } from "./providers.js";

/** So rare that only what writers tell finds a row. */
export const NO_POLL_MS = 3_600_000;

/** A worker for all tests of a file, without a poll; call it after `useDatabase`. `texts` is what it has embedded. */
export function useWorker(db: TestDatabase): { readonly texts: readonly string[] } {
  const provider = hashProvider();
  let worker: Worker | undefined;
  beforeAll(async () => {
    worker = await createWorker({ databaseUrl: db.url, provider, pollIntervalMs: NO_POLL_MS });
  });
  afterAll(() => worker?.stop());
  return provider;
}
