import pg from "pg";
import { expect, it } from "vitest";
import { createPipelineSet } from "#embedd/worker/pipeline-set.js";
import { silentLogger } from "#embedd/logger.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";

it("asked for a thousand refreshes, as by a flood of notifications, refreshes a few times a second", async () => {
  let reads = 0;
  const pool = new pg.Pool();
  Object.assign(pool, {
    query: () => {
      reads++;
      return Promise.resolve({ rows: [] });
    },
  });
  const set = createPipelineSet({
    pool,
    provider: hashProvider(),
    log: silentLogger,
    presence: {
      serve: () => Promise.reject(new Error("nothing to serve")),
      unserve: () => Promise.resolve(),
    },
    startRunner: () => {
      throw new Error("nothing to run");
    },
    takeoverMs: 1_000,
  });
  set.refreshSoon();
  await waitFor(() => reads > 0, { what: "the first refresh, which comes at once" });
  const perRefresh = reads;
  const started = performance.now();
  for (let i = 0; i < 1_000; i++) {
    set.refreshSoon();
    if (i % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await waitFor(() => reads > perRefresh, { what: "one more refresh" });
  await set.stop();
  expect(reads / perRefresh).toBeLessThanOrEqual(2 + (performance.now() - started) / 200);
});
