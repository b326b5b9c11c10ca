import { describe, expect, it } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { hashProvider, slowProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { startTestWorker } from "../../helpers/worker.js";
import { useStaleTable } from "../../helpers/stale-table.js";

const db = useDatabase();
const stale = useStaleTable(db);
const slowB = (ms: number) => slowProvider(ms, hashProvider({ model: "b" }));
const { staleTable, flag, untilReembedded, models } = stale;

const embedd = (...args: string[]) =>
  spawnCli(["reembed", ...args], { env: { DATABASE_URL: db.url } }).exited;
const serve = (model: string) =>
  db.query("update embedd.pipelines set served_model = $2 where relation = $1::regclass", [
    stale.table,
    model,
  ]);

// With one session for all, a worker of an earlier test still seems to be connected.
describeServer("embedd reembed without a worker", () => {
  it("says what to start, and can be stopped", async () => {
    await staleTable({ rows: 10 });
    await serve("b");
    const started = await embedd();
    expect(started).toMatchObject({ code: 3 });
    expect(started.stderr).toMatch(/no worker is connected.*embedd run/);
    expect(await flag()).toBe(true);
    expect(await embedd("--stop")).toMatchObject({ code: 0 });
    expect(await flag()).toBe(false);
    expect((await embedd("--stop")).stdout).toMatch(/no table is being re-embedded/);
    expect(await models()).toEqual([{ model: "a", n: 10 }]);
  });
});

describe("embedd reembed", () => {
  it("says what it replaces, reports the result, and has nothing to do the second time", async () => {
    await staleTable({ rows: 200 });
    await db.query(`update ${stale.table} set embedding_model = null where id = 7`);
    await serve("b");
    await startTestWorker(db, slowB(5), { maxBatchRows: 32 });
    const first = await embedd("--table", stale.table);
    expect(first).toMatchObject({ code: 0 });
    expect(first.stdout).toMatch(
      new RegExp(
        `^${stale.table}\\.embedding: re-embedding 1 row from an unnamed model, 199 rows from a with b$`,
        "m",
      ),
    );
    expect(first.stdout).toMatch(/^200 rows re-embedded in/m);
    expect(await models()).toEqual([{ model: "b", n: 200 }]);
    const second = await embedd("--table", stale.table);
    expect(second).toMatchObject({ code: 0 });
    expect(second.stdout).toMatch(/every row already uses the current model/);
  });

  it("--all does not count a dead row that never had a vector", async () => {
    await staleTable({ rows: 10 });
    await serve("a");
    await db.query(`update ${stale.table} set embedding = null, embedding_model = null where id = 7;
      create function refuse_seven() returns trigger language plpgsql as $$
      begin
        if new.id = 7 and new.embedding is not null then raise exception 'refused'; end if;
        return new;
      end $$;
      create trigger refuse_seven before update on ${stale.table} for each row execute function refuse_seven()`);
    await startTestWorker(db, hashProvider({ model: "a" }), { maxAttempts: 1 });
    const dead = async () => (await db.query("select from embedd.failures where dead")).rowCount === 1;
    await waitFor(dead, { what: "the refused row to be dead" });
    const { code, stdout, stderr } = await embedd("--table", stale.table, "--all");
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.not.stringContaining("old vector") as string,
    });
    expect(stdout).toMatch(/^9 rows re-embedded in/m);
  });

  it("keeps running after Ctrl-C, which only ends the progress display", async () => {
    await staleTable({ rows: 400 });
    await serve("b");
    await startTestWorker(db, slowB(500), { maxBatchRows: 32 });
    const watching = spawnCli(["reembed"], { env: { DATABASE_URL: db.url } });
    await watching.waitForLine(/re-embedding/);
    await waitFor(async () => (await models()).length === 2, { what: "the first batch" });
    watching.child.kill("SIGINT");
    expect(await watching.exited).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/the workers continue/) as string,
    });
    expect(await flag()).toBe(true);
    await untilReembedded();
    expect(await models()).toEqual([{ model: "b", n: 400 }]);
  });

  it("refuses a missing table, and says which table is not served and why", async () => {
    await staleTable({ rows: 1 });
    expect(await embedd("--table", "nowhere")).toMatchObject({ code: 2 });
    await db.query("update embedd.pipelines set error = 'it does not fit' where relation = $1::regclass", [
      stale.table,
    ]);
    expect(await embedd("--table", stale.table)).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/it does not fit\n {2}try: embedd doctor\n/) as string,
    });
  });
});
