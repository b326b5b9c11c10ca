import { expect, it } from "vitest";
import { migrate, migrationScript } from "#embedd/admin/migrate.js";
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

describeServer("the bookkeeping", () => {
  it("of another application is not touched, and said", async () => {
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
    await drop();
  });
});
