import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it, onTestFinished } from "vitest";
import { loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import { finishWindow, takeWindow } from "#embedd/worker/claim/refresh-windows.sql.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { expectVectors, watchTable } from "../../helpers/watched-table.js";
import { WITHOUT_TIMERS, startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();
const ROWS = 7_000;
const WINDOW_ROWS = 2_000;

const PROGRAM = fileURLToPath(new URL("../../faults/worker-program.mjs", import.meta.url));

/** A worker in a process of its own, whose batches take a moment. */
function startProcess() {
  const settings = {
    dimensions: 384,
    // So that most of the work is left when the test has seen the first window.
    latencyMs: 200,
    worker: { ...WITHOUT_TIMERS, databaseUrl: db.url, reuse: false, maxBatchRows: 200 },
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
    await waitFor(async () => (await refreshed()) >= WINDOW_ROWS, { what: "the first window" });
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
      { what: "the end of the refresh" },
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

describeServer("a worker that is frozen in the middle of a refresh", () => {
  it("leaves its window to another at once, and has lost it when it thaws", async () => {
    await db.query(`create table frozen (id int primary key, body text, embedding vector(384), embedding_model text);
      insert into frozen select i, 'text ' || i from generate_series(1, 20) i;
      select embedd.watch('frozen', '{body}')`);
    const provider = hashProvider();
    const worker = await startTestWorker(db, provider);
    await worker.idle();
    await worker.stop();
    const stranger = await db.pool.connect();
    try {
      const { rows } = await stranger.query<{ id: number }>("select embedd.announce_worker() as id");
      const id = rows[0]?.id ?? 0;
      await db.query("update embedd.heartbeats set seen_at = now() - interval '20 s' where worker = $1", [
        id,
      ]);
      await db.query(
        "select embedd.resolve_gap(id, 'refresh') from embedd.pipelines where relation = 'frozen'::regclass",
      );
      const window = await db.query<{ id: string }>(
        `with ours as (
           update embedd.pipelines set refresh_cursor = '{}' where relation = 'frozen'::regclass returning id)
         insert into embedd.refresh_windows (pipeline_id, worker, expires_at)
         select id, $1, now() + interval '1 day' from ours
         returning id::text`,
        [id],
      );
      const { pipelines } = await loadPipelines(db.pool);
      const pipeline = pipelines.find(({ relation }) => relation === "public.frozen");
      if (pipeline === undefined) throw new Error("not watched");
      const windowId = window.rows[0]?.id ?? "";
      const taken = await takeWindow(db.pool, pipeline, {
        worker: id + 1,
        mine: [],
        model: "hash",
        windowMs: 60_000,
      });
      expect(taken).toMatchObject({ below: null, downTo: null });
      expect(taken).not.toMatchObject({ id: windowId });
      expect(await finishWindow(db.pool, pipeline, { windowId, model: "hash", rows: 20 })).toBe(false);
      // That taker is gone, so a worker takes it and ends the refresh.
      provider.texts.length = 0;
      await startTestWorker(db, provider);
      await waitFor(
        async () =>
          (
            await db.query(
              "select from embedd.pipelines where relation = 'frozen'::regclass and refresh_started_at is null",
            )
          ).rowCount === 1,
        { what: "the end of the refresh" },
      );
      expect(provider.texts).toHaveLength(20);
    } finally {
      stranger.release(true);
    }
  });
});
