import { join } from "node:path";
import { expect, it } from "vitest";
import { NO_POLL_MS } from "../../helpers/file-worker.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { runProgram, temporaryFolder } from "../../helpers/programs.js";
import { hashProvider } from "../../helpers/providers.js";
import {
  countNotifications,
  expectVectors,
  waitUntilServed,
  watchTable,
} from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();
const texts = { 1: "dumped", 2: "dumped, too", 3: "ünïcödé\twith a tab" };

/** The rows of a table of the same shape in a database without embedd, as pg_dump writes them. */
async function dumpRows(relation: string): Promise<string> {
  const source = await db.createDatabase();
  await source.query(`create extension vector;
    create table ${relation} (id int primary key, body text, embedding vector(384), embedding_model text)`);
  for (const [id, text] of Object.entries(texts))
    await source.query(`insert into ${relation} values ($1, $2)`, [id, text]);
  const file = join(await temporaryFolder(), "rows.dump");
  await runProgram("pg_dump", ["-Fc", "--data-only", "-t", relation, "-f", file, source.url]);
  return file;
}

const restore = (url: string, file: string, ...args: string[]) =>
  runProgram("pg_restore", ["--exit-on-error", ...args, "-d", url, file]);

describeServer("pg_restore", () => {
  it("of a table's rows: the triggers fire without a poll", async () => {
    const file = await dumpRows("restored");
    await startTestWorker(db, hashProvider(), { pollIntervalMs: NO_POLL_MS });
    await watchTable(db, { relation: "restored" });
    const notifications = await countNotifications(db);
    await restore(db.url, file, "--data-only");
    expect(await notifications.count()).toBeGreaterThan(0);
    await expectVectors(db, "restored", texts);
  });

  it("with --disable-triggers: no trigger fires, and the poll finds the rows", async () => {
    const file = await dumpRows("restored_quietly");
    const worker = await startTestWorker(db, hashProvider(), { pollIntervalMs: 2_000 });
    await watchTable(db, { relation: "restored_quietly" });
    const notifications = await countNotifications(db);
    await worker.idle();
    await restore(db.url, file, "--data-only", "--disable-triggers");
    expect(await notifications.count()).toBe(0);
    await expectVectors(db, "restored_quietly", texts);
    // They are back afterwards.
    await db.query("update restored_quietly set body = 'edited' where id = 1");
    await expectVectors(db, "restored_quietly", { ...texts, 1: "edited" });
  });
});

describeServer("a dump of a whole watched database, restored elsewhere,", () => {
  it("has its vectors, and its pipelines serve it", async () => {
    const worker = await startTestWorker(db, hashProvider(), { pollIntervalMs: NO_POLL_MS });
    const pipeline = await watchTable(db, { relation: "whole" });
    await db.query("insert into whole (id, body) values (1, 'embedded before the dump')");
    await expectVectors(db, "whole", { 1: "embedded before the dump" });
    await worker.stop();
    await db.query("insert into whole (id, body) values (2, 'waiting in the dump')");
    const file = join(await temporaryFolder(), "whole.dump");
    await runProgram("pg_dump", ["-Fc", "-f", file, db.url]);
    const copy = await db.createDatabase();
    await restore(copy.url, file);
    const provider = hashProvider();
    const heir = await startTestWorker(db, provider, { databaseUrl: copy.url, pollIntervalMs: NO_POLL_MS });
    await waitUntilServed(copy, pipeline);
    await expectVectors(copy, "whole", { 1: "embedded before the dump", 2: "waiting in the dump" });
    await heir.idle();
    await copy.query("update whole set body = 'edited in the copy' where id = 1");
    await copy.query("insert into whole (id, body) values (3, 'written in the copy')");
    await expectVectors(copy, "whole", {
      1: "edited in the copy",
      2: "waiting in the dump",
      3: "written in the copy",
    });
    expect(provider.texts).not.toContain("embedded before the dump");
    await heir.stop();
  });
});
