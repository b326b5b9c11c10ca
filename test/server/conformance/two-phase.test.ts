import { beforeAll, expect, it, onTestFinished } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider, heldProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { connectWriter, countNotifications, expectVectors, watchTable } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

/** Names of prepared transactions belong to the whole server. One that a failed test leaves is rolled back. */
function newTransaction(): string {
  const name = `embedd_test_${Math.random().toString(36).slice(2, 12)}`;
  onTestFinished(async () => {
    const left = await db.query("select from pg_prepared_xacts where gid = $1", [name]);
    if (left.rowCount === 1) await db.query(`rollback prepared '${name}'`);
  });
  return name;
}

describeServer("a transaction in two phases", () => {
  beforeAll(async () => {
    const { rows } = await db.query("select current_setting('max_prepared_transactions')::int > 0 as on");
    expect(rows, "max_prepared_transactions of the server of TEST_DATABASE_URL").toEqual([{ on: true }]);
  });

  it("with embedd.wake = off is prepared, and the poll finds its rows", async () => {
    const worker = await startTestWorker(db, hashProvider(), { pollIntervalMs: 1_000 });
    await watchTable(db, { relation: "off" });
    await db.query("insert into off (id, body) values (1, 'old text')");
    await expectVectors(db, "off", { 1: "old text" });
    const name = newTransaction();
    const writer = await connectWriter(db.url);
    const notifications = await countNotifications(db);
    await worker.idle();
    await writer.query(`begin; set local embedd.wake = off;
      insert into off (id, body) values (2, 'in two phases'); update off set body = 'edited' where id = 1;
      prepare transaction '${name}'`);
    await expectVectors(db, "off", { 1: "old text" });
    await writer.query(`commit prepared '${name}'`);
    expect(await notifications.count()).toBe(0);
    await expectVectors(db, "off", { 1: "edited", 2: "in two phases" });
    // It was for that transaction only.
    await worker.idle();
    await writer.query("insert into off (id, body) values (3, 'afterwards')");
    await expectVectors(db, "off", { 1: "edited", 2: "in two phases", 3: "afterwards" });
  });

  it("that is rolled back is not embedded", async () => {
    const provider = hashProvider();
    await startTestWorker(db, provider, { pollIntervalMs: 1_000 });
    await watchTable(db, { relation: "undone" });
    const name = newTransaction();
    const writer = await connectWriter(db.url);
    await writer.query(`begin; set local embedd.wake = off;
      insert into undone (id, body) values (1, 'never was'); prepare transaction '${name}'`);
    await writer.query(`rollback prepared '${name}'`);
    await writer.query("insert into undone (id, body) values (2, 'is')");
    await expectVectors(db, "undone", { 2: "is" });
    expect(provider.texts).not.toContain("never was");
  });

  it("without the setting and a sleeping worker is refused by PostgreSQL, and nothing is written", async () => {
    const worker = await startTestWorker(db, hashProvider());
    await watchTable(db, { relation: "refused" });
    await worker.idle();
    const writer = await connectWriter(db.url);
    await writer.query("begin; insert into refused (id, body) values (1, 'cannot be prepared')");
    await expect(writer.query(`prepare transaction '${newTransaction()}'`)).rejects.toMatchObject({
      code: "0A000",
      message: expect.stringMatching(/cannot PREPARE a transaction that has executed.* NOTIFY/) as string,
    });
    await writer.query("rollback");
    await writer.query("insert into refused (id, body) values (2, 'in one phase')");
    await expectVectors(db, "refused", { 2: "in one phase" });
  });

  it("without the setting and an awake worker is prepared, and its rows are found without a poll", async () => {
    const { provider, hold, release } = heldProvider(hashProvider());
    const worker = await startTestWorker(db, provider);
    await watchTable(db, { relation: "awake" });
    await worker.idle();
    const name = newTransaction();
    const held = hold();
    onTestFinished(release);
    await db.query("insert into awake (id, body) values (1, 'keeps the worker awake')");
    await held;
    const notifications = await countNotifications(db);
    const writer = await connectWriter(db.url);
    await writer.query(
      `begin; insert into awake (id, body) values (2, 'prepared'); prepare transaction '${name}'`,
    );
    release();
    await expectVectors(db, "awake", { 1: "keeps the worker awake" });
    // The prepared transaction holds the gate, so the worker cannot fall asleep.
    const gate = () =>
      db.query<{ mode: string }>(
        `select l.mode from pg_locks l where l.locktype = 'advisory' and l.classid = 1701667431 and l.objid = (
           select id from embedd.pipelines where relation = 'awake'::regclass)
           and l.database = (select oid from pg_database where datname = current_database())`,
      );
    expect((await gate()).rows).toEqual([{ mode: "ShareLock" }]);
    await writer.query(`commit prepared '${name}'`);
    await expectVectors(db, "awake", { 1: "keeps the worker awake", 2: "prepared" });
    expect(await notifications.count()).toBe(0);
    await waitFor(async () => (await gate()).rows.some(({ mode }) => mode === "ExclusiveLock"), {
      what: "the worker to fall asleep",
    });
  });
});
