import { beforeAll, expect, it, onTestFinished } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import type { Database } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { connectWriter, countNotifications, expectVectors, watchTable } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();
/** The poll finds what no trigger reports. */
const POLL_MS = 1_000;

/** Waits until a row has arrived with a text, embedded or not. */
const arrived = (relation: string, id: number, text: string) =>
  waitFor(
    async () =>
      (await db.query(`select from ${relation} where id = $1 and body = $2`, [id, text])).rowCount === 1,
    { what: `"${text}" to arrive in ${relation}` },
  );

describeServer("session_replication_role = replica", () => {
  it("INSERT fires no trigger, and the poll finds the rows", async () => {
    const worker = await startTestWorker(db, hashProvider(), { pollIntervalMs: POLL_MS });
    await watchTable(db, { relation: "replica" });
    const notifications = await countNotifications(db);
    const writer = await connectWriter(db.url);
    await worker.idle();
    await writer.query("set session_replication_role = replica");
    await writer.query("insert into replica (id, body) values (1, 'as a replica'), (2, 'as a replica, too')");
    expect(await notifications.count()).toBe(0);
    await expectVectors(db, "replica", { 1: "as a replica", 2: "as a replica, too" });
  });

  it("UPDATE of an embedded row does not leave it with the vector of its old text", async () => {
    await startTestWorker(db, hashProvider(), { pollIntervalMs: POLL_MS });
    await watchTable(db, { relation: "replica_edit" });
    await db.query("insert into replica_edit (id, body) values (1, 'old')");
    await expectVectors(db, "replica_edit", { 1: "old" });
    const writer = await connectWriter(db.url);
    await writer.query("set session_replication_role = replica");
    await writer.query("update replica_edit set body = 'new' where id = 1");
    await expectVectors(db, "replica_edit", { 1: "new" });
  });
});

/**
 * Publishes a table of another database of the server and subscribes to it in the test's. A subscription to
 * the same server must not make its own slot: that would wait for the very transaction which makes it.
 */
async function subscribe(publisher: Database, relation: string): Promise<void> {
  const name = `embedd_test_${Math.random().toString(36).slice(2, 12)}`;
  await publisher.query(`create publication ${name} for table ${relation} (id, body)`);
  await publisher.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [name]);
  onTestFinished(async () => {
    if ((await db.query("select from pg_subscription where subname = $1", [name])).rowCount === 1) {
      await db.query(`alter subscription ${name} disable`);
      await db.query(`alter subscription ${name} set (slot_name = none)`);
      await db.query(`drop subscription ${name}`);
    }
    // The sender holds the slot for a moment after its subscriber has gone, and a table's first copy has one of its own.
    await waitFor(
      async () => {
        const { rows } = await publisher.query<{ slot_name: string; active: boolean }>(
          "select slot_name, active from pg_replication_slots where database = current_database()",
        );
        for (const slot of rows.filter(({ active }) => !active)) {
          await publisher
            .query("select pg_drop_replication_slot($1)", [slot.slot_name])
            .catch(() => undefined);
        }
        return rows.length === 0;
      },
      { what: "the replication slots to go" },
    );
    await publisher.query(`drop publication ${name}`);
  });
  await db.query(`create subscription ${name} connection '${publisher.url}' publication ${name}
    with (create_slot = false, slot_name = '${name}')`);
}

describeServer("a subscriber of logical replication", () => {
  beforeAll(async () => {
    const { rows } = await db.query("show wal_level");
    expect(rows, "the server of TEST_DATABASE_URL").toEqual([{ wal_level: "logical" }]);
  });

  async function publish(relation: string): Promise<Database> {
    const publisher = await db.createDatabase();
    await publisher.query(`create table ${relation} (id int primary key, body text);
      insert into ${relation} values (1, 'there before the subscription')`);
    await startTestWorker(db, hashProvider(), { pollIntervalMs: POLL_MS });
    await watchTable(db, { relation });
    await subscribe(publisher, relation);
    return publisher;
  }

  it("embeds the first copy, and rows that are inserted, updated while pending, and deleted", async () => {
    const publisher = await publish("published");
    await arrived("published", 1, "there before the subscription");
    await publisher.query("insert into published values (2, 'published'), (3, 'deleted later')");
    await arrived("published", 3, "deleted later");
    await expectVectors(db, "published", {
      1: "there before the subscription",
      2: "published",
      3: "deleted later",
    });
    await publisher.query("delete from published where id = 3");
    await publisher.query("insert into published values (4, 'first text')");
    await publisher.query(
      "begin; insert into published values (5, 'a'); update published set body = 'b' where id = 5; commit",
    );
    await arrived("published", 5, "b");
    await expectVectors(db, "published", {
      1: "there before the subscription",
      2: "published",
      4: "first text",
      5: "b",
    });
  });

  it("does not keep the vector of an old text when the row is updated", async () => {
    const publisher = await publish("published_edit");
    await arrived("published_edit", 1, "there before the subscription");
    await expectVectors(db, "published_edit", { 1: "there before the subscription" });
    await publisher.query("update published_edit set body = 'edited at the publisher'");
    await arrived("published_edit", 1, "edited at the publisher");
    await expectVectors(db, "published_edit", { 1: "edited at the publisher" });
  });
});
