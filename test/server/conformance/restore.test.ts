import { join } from "node:path";
import { expect, it } from "vitest";
import { spawnCli } from "../../helpers/cli.js";
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
    await startTestWorker(db, hashProvider());
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
    const worker = await startTestWorker(db, hashProvider());
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
    const heir = await startTestWorker(db, provider, { databaseUrl: copy.url });
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

describeServer("a dump of a whole database whose tables had columns dropped", () => {
  it("is served without a complaint, although its columns have other numbers", async () => {
    const source = await db.createMigratedDatabase();
    await source.query(`create table docs (a int, b int, id int primary key, c int, body text, title text,
        embedding vector(384), embedding_model text);
      alter table docs drop a, drop b, drop c;
      select embedd.watch('docs', '{title,body}', template => '{title}: {body}');
      insert into docs (id, title, body) values (1, 'T', 'b')`);
    const file = join(await temporaryFolder(), "whole.dump");
    await runProgram("pg_dump", ["-Fc", "-f", file, source.url]);
    const copy = await db.createDatabase();
    await restore(copy.url, file);
    const worker = await startTestWorker(db, hashProvider(), { databaseUrl: copy.url, pollIntervalMs: 500 });
    await expectVectors(copy, "docs", { 1: "T: b" });
    await copy.query("update docs set body = 'edited'");
    await expectVectors(copy, "docs", { 1: "T: edited" });
    expect(
      (await copy.query("select error, gap, content_columns, template from embedd.pipelines where id = 2"))
        .rows,
    ).toEqual([{ error: null, gap: null, content_columns: ["title", "body"], template: "{title}: {body}" }]);
    await copy.query("alter table docs rename title to headline");
    await copy.query("insert into docs (id, headline, body) values (2, 'U', 'c')");
    await expectVectors(copy, "docs", { 1: "T: edited", 2: "U: c" });
    await worker.stop();
  });
});

describeServer("a dump of one watched table", () => {
  /** A watched table with a vector, dumped with its triggers and its index. */
  async function dumpWatched(): Promise<string> {
    const source = await db.createMigratedDatabase();
    await source.query(`create table docs (id int primary key, body text, vec vector(384), vec_model text);
      select embedd.watch('docs', '{body}', 'vec');
      update embedd.pipelines set served_model = 'hash' where relation = 'docs'::regclass;
      insert into docs values (1, 'dumped', array_fill(0.5, array[384])::vector, 'hash')`);
    const file = join(await temporaryFolder(), "docs.dump");
    await runProgram("pg_dump", ["-Fc", "-t", "docs", "-f", file, source.url]);
    return file;
  }
  const embedd = async (url: string, ...args: string[]) => {
    const exit = await spawnCli(args, { env: { DATABASE_URL: url } }).exited;
    return { ...exit, out: `${exit.stdout}${exit.stderr}` };
  };
  /** Restores as most people do, without stopping at an error. @returns the errors */
  const complaintsOf = async (url: string, file: string): Promise<string[]> => {
    const output = await runProgram("pg_restore", ["-d", url, file]).then(() => "", String);
    return output.split("\n").filter((line) => line.includes("ERROR:"));
  };
  const rows = async (database: { query: typeof db.query }) =>
    (await database.query("select id, body, vec is null as pending from docs order by id")).rows;

  it("restored next to other pipelines of embedd fails no writer, is reported, and can be watched", async () => {
    const file = await dumpWatched();
    const copy = await db.createMigratedDatabase();
    await copy.query(`create table other (id int primary key, body text, embedding vector(384), embedding_model text);
      select embedd.watch('other', '{body}')`);
    // Only a number tells the indexes of two databases apart.
    expect(await complaintsOf(copy.url, file)).toEqual([
      expect.stringContaining('relation "embedd_2_pending" already exists'),
    ]);
    await copy.query(
      "insert into docs (id, body) values (2, 'new'); update docs set body = 'edited' where id = 1",
    );
    expect(await rows(copy)).toEqual([
      { id: 1, body: "edited", pending: true },
      { id: 2, body: "new", pending: true },
    ]);
    const doctor = await embedd(copy.url, "doctor");
    expect(doctor.stdout).toMatch(
      /warn {2}docs has triggers of embedd, but is not watched.*\n {6}try: embedd unwatch docs {2}# or: embedd watch docs/,
    );
    expect((await embedd(copy.url, "status")).stdout).toContain(
      "docs has triggers of embedd, but is not watched",
    );

    expect(await embedd(copy.url, "watch", "docs", "--content", "body", "--embedding", "vec")).toMatchObject({
      code: 0,
    });
    const names = await copy.query(
      "select tgname from pg_trigger where tgrelid = 'docs'::regclass order by 1",
    );
    const { rows: ids } = await copy.query<{ id: number }>(
      "select id from embedd.pipelines where relation = 'docs'::regclass",
    );
    expect(names.rows).toEqual(
      [
        "after_insert",
        "after_update",
        "before_edit",
        "before_save",
        "before_save_unread",
        "before_unread",
      ].map((event) => ({
        tgname: `zzz_embedd_${ids[0]?.id ?? 0}__${event}`,
      })),
    );
    expect((await embedd(copy.url, "doctor")).stdout).not.toContain("not watched");
  });

  it("restored first keeps its index, and a table that is watched later gets one of another name", async () => {
    const file = await dumpWatched();
    const copy = await db.createMigratedDatabase();
    await restore(copy.url, file);
    await copy.query(
      "create table other (id int primary key, body text, embedding vector(384), embedding_model text)",
    );
    expect(await embedd(copy.url, "watch", "other", "--content", "body")).toMatchObject({ code: 0 });
    const { rows: indexes } = await copy.query(
      "select tablename, indexname from pg_indexes where indexname ~ '^embedd_[23]_pending$' order by 2",
    );
    expect(indexes).toEqual([
      { tablename: "docs", indexname: "embedd_2_pending" },
      { tablename: "other", indexname: "embedd_3_pending" },
    ]);
  });

  it("can be unwatched where it was restored, which drops embedd's triggers and index", async () => {
    const file = await dumpWatched();
    const copy = await db.createMigratedDatabase();
    await restore(copy.url, file);
    expect(await embedd(copy.url, "unwatch", "docs")).toMatchObject({ code: 0 });
    expect(
      (await copy.query("select from pg_trigger where tgrelid = 'docs'::regclass and not tgisinternal"))
        .rowCount,
    ).toBe(0);
    expect((await copy.query("select indexname from pg_indexes where tablename = 'docs'")).rows).toEqual([
      { indexname: "docs_pkey" },
    ]);
  });

  it("restored where embedd is absent: pg_restore reports the missing functions, and the table works", async () => {
    const file = await dumpWatched();
    const copy = await db.createDatabase();
    await copy.query("create extension vector");
    const complaints = await complaintsOf(copy.url, file);
    expect(complaints).toHaveLength(6);
    for (const line of complaints) expect(line).toMatch(/schema "embedd" does not exist/);
    await copy.query("update docs set body = 'edited'");
    expect(await rows(copy)).toEqual([{ id: 1, body: "edited", pending: false }]);
  });
});
