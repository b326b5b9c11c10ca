import { it } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { expectVectors, watchTable } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

describeServer("a pause", () => {
  it("releases the gate, and its end takes effect, without a poll", async () => {
    await startTestWorker(db, hashProvider());
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
      { what: "the worker to release the gate" },
    );
    await db.query("insert into pausing values (2, 'paused')");
    await db.query("update embedd.pipelines set paused = false where id = $1", [pipeline]);
    await expectVectors(db, "pausing", { 1: "running", 2: "paused" });
  });
});
