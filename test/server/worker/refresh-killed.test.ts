import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it, onTestFinished } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { expectVectors, watchTable } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();
const ROWS = 7_000;
const WINDOW_ROWS = 2_000;

const PROGRAM = fileURLToPath(new URL("../../faults/worker-program.mjs", import.meta.url));

/** A worker in a process of its own, whose batches take a moment. */
function startProcess() {
  const settings = {
    dimensions: 384,
    latencyMs: 40,
    worker: { databaseUrl: db.url, reuse: false, maxBatchRows: 200 },
  };
  const child = fork(PROGRAM, [], {
    execArgv: ["--conditions", "node"],
    env: { ...process.env, FAULTS_WORKER: JSON.stringify(settings) },
    silent: true,
  });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  return child;
}

describeServer("a worker that is killed with kill -9 in the middle of a refresh", () => {
  it("leaves its window to another, and the rest is not repeated", async () => {
    const worker = await startTestWorker(db, hashProvider());
    const pipeline = await watchTable(db, { relation: "docs" });
    await db.query(`insert into docs select i, 'text ' || i from generate_series(1, ${ROWS}) i`);
    await worker.idle();
    await worker.stop();
    await db.query("update docs set embedding_model = 'other'");
    await db.query("select embedd.resolve_gap($1, 'refresh')", [pipeline]);

    const child = startProcess();
    const refreshed = async () =>
      Number(
        (
          await db.query<{ n: string }>("select refreshed as n from embedd.pipelines where id = $1", [
            pipeline,
          ])
        ).rows[0]?.n,
      );
    await waitFor(async () => (await refreshed()) >= WINDOW_ROWS, {
      timeoutMs: 30_000,
      what: "the first window",
    });
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
    const before = await refreshed();
    expect(before).toBeLessThan(ROWS);

    const heir = hashProvider();
    await startTestWorker(db, heir);
    await waitFor(
      async () =>
        (
          await db.query("select from embedd.pipelines where id = $1 and refresh_started_at is null", [
            pipeline,
          ])
        ).rowCount === 1,
      { timeoutMs: 30_000, what: "the end of the refresh" },
    );
    expect(heir.texts).toHaveLength(ROWS - before);
    await expectVectors(
      db,
      "docs",
      Object.fromEntries(Array.from({ length: ROWS }, (_, i) => [String(i + 1), `text ${i + 1}`])),
    );
    expect((await db.query("select from embedd.refresh_windows")).rowCount).toBe(0);
  });
});
