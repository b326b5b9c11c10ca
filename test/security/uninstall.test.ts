import { expect, it, onTestFinished } from "vitest";
import { describeServer, useDatabase } from "../helpers/database.js";
import type { Database } from "../helpers/database.js";
import { spawnCli } from "../helpers/cli.js";

const db = useDatabase();

async function embedd(database: Database, ...args: string[]): Promise<{ code: number | null; out: string }> {
  const { code, stdout, stderr } = await spawnCli(args, { env: { DATABASE_URL: database.url } }).exited;
  return { code, out: `${stdout}${stderr}` };
}

/** SQL that builds on embedd, and what uninstall calls it. */
const BUILT: [string, string][] = [
  ["create view ages as select relation, oldest_pending_age from embedd.status", "view public.ages"],
  [
    "create materialized view counts as select count(*) from embedd.failures",
    "materialized view public.counts",
  ],
  [
    "create function worth(p embedd.pipelines) returns int language sql as 'select 1'",
    "function public.worth(embedd.pipelines)",
  ],
  ["create table copies (p embedd.pipelines)", "column p of table public.copies"],
  [
    "create table notes (chunk bigint references embedd.chunks)",
    "constraint notes_chunk_fkey on table public.notes",
  ],
  [
    "create table named (name text default embedd.shell_word('a'))",
    "default value for column name of table public.named",
  ],
  ["create table embedd.mine (id int)", "table embedd.mine"],
  ["create function embedd.helper() returns int language sql as 'select 1'", "function embedd.helper()"],
  ["create sequence embedd.numbers", "sequence embedd.numbers"],
];

describeServer("uninstall", () => {
  it("refuses to drop what others built, names it, and drops it with --cascade", async () => {
    const database = await db.createMigratedDatabase();
    onTestFinished(() => database.drop());
    await database.query(`
      create table docs (id int primary key, body text, embedding vector(2), embedding_model text);
      select embedd.watch('docs', '{body}')`);
    for (const [sql] of BUILT) await database.query(sql);
    const refused = await embedd(database, "uninstall");
    expect(refused.code).toBe(2);
    for (const [, name] of BUILT) expect(refused.out).toContain(name);
    expect(refused.out).toContain("try: embedd uninstall --cascade  # drops them too\n");
    expect((await database.query("select from embedd.status where relation = 'docs'")).rowCount).toBe(1);
    expect((await database.query("select from ages")).rowCount).toBe(2);
    expect(await embedd(database, "uninstall", "--cascade")).toMatchObject({ code: 0 });
    expect((await database.query("select from pg_namespace where nspname = 'embedd'")).rowCount).toBe(0);
  });

  it.each(BUILT)("names nothing but %s", async (sql, name) => {
    const database = await db.createMigratedDatabase();
    onTestFinished(() => database.drop());
    await database.query(`${sql}; create publication everything for all tables`);
    const { out } = await embedd(database, "uninstall");
    expect(/embedd did not make them: (.*)/.exec(out)?.[1]).toBe(name);
  });
});
