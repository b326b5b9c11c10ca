import { describe, expect, it } from "vitest";
import { migrate, migrationScript } from "#embedd/admin/migrate.js";
import { uninstall } from "#embedd/admin/uninstall.js";
import { withOwnerClient } from "#embedd/database/pool.js";
import { describeServer, useDatabase } from "../../helpers/database.js";

const db = useDatabase();

async function objects(): Promise<unknown[]> {
  const { rows } = await db.query<Record<string, unknown>>(
    "select relname::text, relkind::text from pg_class where relnamespace = 'embedd'::regnamespace order by 1",
  );
  return rows;
}

it("has made every object of the schema", async () => {
  const names = (await objects()).map((row) => (row as { relname: string }).relname);
  expect(names).toEqual(
    expect.arrayContaining(["pipelines", "chunks", "leases", "failures", "status", "workers"]),
  );
  const { rows } = await db.query("select relation::text, content_columns from embedd.pipelines");
  expect(rows).toEqual([{ relation: "embedd.chunks", content_columns: ["content"] }]);
});

it("does nothing the second time", async () => {
  const before = await objects();
  expect(await migrate(db.url)).toEqual([]);
  expect(await objects()).toEqual(before);
});

it("is safe for two at once on a fresh database", async () => {
  const { url, drop } = await db.createDatabase();
  const results = await Promise.all([migrate(url), migrate(url)]);
  expect(results.map((names) => names.length > 0)).toContain(true);
  expect(await migrate(url)).toEqual([]);
  await drop();
});

describe("the schema of another pre-release build", () => {
  /** What such a build leaves: other files, other hashes, other objects. */
  const ANOTHER_BUILD = `
    alter table graphile_migrate.migrations drop constraint migrations_previous_hash_fkey;
    update graphile_migrate.migrations set hash = 'sha1:other-' || filename, previous_hash = 'sha1:other-' || previous_hash;
    insert into graphile_migrate.migrations values ('sha1:other-8', 'sha1:other-7', '000008.sql');
    alter view embedd.status rename column current_model to present_model;`;
  /** Earlier builds left no mark on their list. */
  const EARLIER_BUILD = `${ANOTHER_BUILD}
    comment on table graphile_migrate.migrations is null;
    update graphile_migrate.migrations set hash = 'sha1:a95e30cb9acf57b786437035ad0edff20359eaeb'
    where filename = '000001.sql';`;

  const remove = (url: string, dropChunks = false): Promise<string[]> =>
    withOwnerClient(url, (client) => uninstall(client, { dropColumns: false, dropChunks }));

  it.each([
    ["another build", ANOTHER_BUILD],
    ["a build that did not mark its list", EARLIER_BUILD],
  ])("is refused, and can be installed again: %s", async (_name, change) => {
    const { url, query, drop } = await db.createDatabase();
    await migrate(url);
    await query(
      `create table docs (id integer primary key, body text, embedding vector(3), embedding_model text);
       insert into docs values (1, 'a text', '[1,2,3]', 'a-model');
       select embedd.watch('docs', array['body'], existing => 'keep')`,
    );
    await query(change);
    const vectors = () => query("select * from docs").then(({ rows }) => rows as unknown[]);
    const before = await vectors();

    await expect(migrate(url)).rejects.toMatchObject({
      kind: "configuration",
      code: "other_build",
      message: expect.stringMatching(/another pre-release build.*embedd watch.*--drop-chunks/) as string,
      hint: "embedd uninstall && embedd migrate",
    });
    await expect(query(await migrationScript())).rejects.toMatchObject({
      message: expect.stringContaining("embedd schema already") as string,
      hint: expect.stringContaining("embedd uninstall") as string,
    });
    await query("rollback");

    await query("insert into embedd.chunks (source, content) values ('a file', 'a chunk')");
    await expect(remove(url)).rejects.toMatchObject({ code: "chunks_left" });
    expect(await remove(url, true)).toEqual(["public.docs"]);
    expect(
      (await query("select to_regnamespace('embedd') as a, to_regnamespace('graphile_migrate') as b")).rows,
    ).toEqual([{ a: null, b: null }]);

    expect(await migrate(url)).not.toEqual([]);
    await query("select embedd.watch('docs', array['body'], existing => 'keep')");
    expect(await vectors()).toEqual(before);
    expect(
      (await query("select done::int, stale::int from embedd.status where relation = 'docs'")).rows,
    ).toMatchObject([{ done: 1 }]);
    expect(await migrate(url)).toEqual([]);
    await drop();
  });

  it("of a newer build is told apart", async () => {
    const { url, query, drop } = await db.createDatabase();
    await migrate(url);
    await query("insert into graphile_migrate.migrations values ('sha1:newer', null, '999999.sql')");
    await expect(migrate(url)).rejects.toMatchObject({
      code: "newer_schema",
      hint: "npm install pg-embedd@latest",
    });
    await drop();
  });

  it("leaves what others keep in graphile_migrate", async () => {
    const { url, query, drop } = await db.createDatabase();
    await migrate(url);
    await query("create table graphile_migrate.theirs (id integer)");
    await remove(url);
    expect((await query("select from graphile_migrate.migrations")).rowCount).toBe(0);
    expect((await query("select from graphile_migrate.theirs")).rowCount).toBe(0);
    expect(await migrate(url)).not.toEqual([]);
    await drop();
  });
});

describeServer("the bookkeeping", () => {
  it("of another application is left alone, and reported", async () => {
    const { url, query, drop } = await db.createDatabase();
    await query(`create schema graphile_migrate;
      create table graphile_migrate.migrations (hash text primary key, previous_hash text, filename text, date timestamptz default now());
      insert into graphile_migrate.migrations values ('sha1:abc', null, '000009.sql')`);
    await expect(migrate(url)).rejects.toMatchObject({
      code: "foreign_migrations",
      hint: expect.stringContaining("--sql") as string,
    });
    expect((await query("select to_regnamespace('embedd') as found")).rows).toEqual([{ found: null }]);
    await query(await migrationScript());
    expect((await query("select count(*)::int as n from embedd.pipelines")).rows).toEqual([{ n: 1 }]);
    await expect(migrate(url)).rejects.toMatchObject({ code: "foreign_migrations" });
    await withOwnerClient(url, (client) => uninstall(client, { dropColumns: false, dropChunks: false }));
    expect((await query("select filename from graphile_migrate.migrations")).rows).toEqual([
      { filename: "000009.sql" },
    ]);
    await drop();
  });
});
