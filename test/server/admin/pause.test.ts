import { expect, it } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { NO_POLL_MS } from "../../helpers/file-worker.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { expectVectors, watchTable } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

describeServer("a pause", () => {
  it("releases the gate within a second, and the end of the pause takes effect within a second", async () => {
    await startTestWorker(db, hashProvider(), { pollIntervalMs: NO_POLL_MS });
    const pipeline = await watchTable(db, { relation: "pausing" });
    await db.query("insert into pausing values (1, 'running')");
    await expectVectors(db, "pausing", { 1: "running" });
    await db.query("update embedd.pipelines set paused = true where id = $1", [pipeline]);
    await waitFor(
      async () => {
        const { rows } = await db.query<{ free: boolean }>(
          "select pg_try_advisory_xact_lock(1701667431, $1) as free",
          [pipeline],
        );
        return rows[0]?.free;
      },
      { timeoutMs: 10_000, what: "the worker to release the gate" },
    );
    await db.query("insert into pausing values (2, 'paused')");
    await db.query("update embedd.pipelines set paused = false where id = $1", [pipeline]);
    const started = Date.now();
    await expectVectors(db, "pausing", { 1: "running", 2: "paused" });
    // The poll would take 30 s.
    expect(Date.now() - started).toBeLessThan(10_000);
  });
});
