import { expect, it, onTestFinished } from "vitest";
import { describeServer, useDatabase } from "../helpers/database.js";
import type { Database } from "../helpers/database.js";
import { spawnCli } from "../helpers/cli.js";
import { createRole } from "../helpers/watched-table.js";

const db = useDatabase();

/** A table `docs`, and a stranger who may create tables in its schema. Nothing but embedd.chunks is watched. */
async function withStranger(): Promise<{ database: Database; asStranger: (sql: string) => Promise<void> }> {
  const { role } = await createRole(db);
  const database = await db.createMigratedDatabase();
  onTestFinished(() => database.drop());
  await database.query(`
    grant create on schema public to ${role};
    create table docs (id int primary key, title text, body text, embedding vector(384), embedding_model text)`);
  return {
    database,
    asStranger: async (sql) => {
      await database.query(`set role ${role}; ${sql}; reset role`);
    },
  };
}

async function embedd(database: Database, ...args: string[]): Promise<{ code: number | null; out: string }> {
  const { code, stdout, stderr } = await spawnCli(args, { env: { DATABASE_URL: database.url } }).exited;
  return { code, out: `${stdout}${stderr}` };
}

async function succeeds(database: Database, command: string): Promise<void> {
  const { code, out } = await embedd(database, ...command.split(" "));
  expect(code, `${command}: ${out}`).toBe(0);
}

/** The relations that a table's names could mean, and what each belongs to. */
async function named(database: Database): Promise<Record<string, string | null>> {
  const { rows } = await database.query<{ name: string; table: string | null }>(`
    select c.relname as name, i.indrelid::regclass::text as table
    from pg_class c
    left join pg_index i on i.indexrelid = c.oid
    where c.relname like 'embedd\\_%' and c.relnamespace = 'public'::regnamespace`);
  return Object.fromEntries(rows.map(({ name, table }) => [name, table]));
}

/** embedd.chunks is pipeline 1. */
const SQUATTED: [what: string, sql: string, left: Record<string, string | null>][] = [
  [
    "indexes",
    `create table theirs (a int);
     create index embedd_2_pending on theirs (a);
     create index embedd_2_vector on theirs (a)`,
    { embedd_2_pending: "theirs", embedd_2_vector: "theirs" },
  ],
  [
    "tables",
    "create table embedd_2_pending (); create table embedd_3_pending_next (); create table embedd_4_vector ()",
    { embedd_2_pending: null, embedd_3_pending_next: null, embedd_4_vector: null },
  ],
];

describeServer("a stranger who gives the names of embedd's indexes to", () => {
  it.each(SQUATTED)("%s of his own keeps them, and hinders no command", async (_, sql, left) => {
    const { database, asStranger } = await withStranger();
    await asStranger(sql);
    await succeeds(database, "watch docs --content body --index hnsw");
    const { rows } = await database.query<{ id: number }>(
      "select id from embedd.pipelines where relation = 'docs'::regclass",
    );
    const own = `embedd_${rows[0]?.id ?? 0}_pending`;
    expect(await named(database)).toEqual({ ...left, [own]: "docs" });
    await succeeds(database, "watch docs --content title,body");
    await succeeds(database, "unwatch docs");
    expect(await named(database)).toEqual(left);
    await succeeds(database, "watch docs --content body");
    await succeeds(database, "uninstall");
    expect(await named(database)).toEqual(left);
  });

  it("a table of his after docs is watched is told, and what to type cures it", async () => {
    const { database, asStranger } = await withStranger();
    await succeeds(database, "watch docs --content body --index hnsw");
    await database.query("drop index embedd_2_pending");
    await asStranger("create table embedd_2_pending (); create table embedd_2_vector ()");
    for (const args of [
      ["repair", "docs"],
      ["watch", "docs", "--content", "title"],
    ]) {
      const { code, out } = await embedd(database, ...args);
      expect(code, out).toBe(2);
      expect(out).toContain("needs the name embedd_2_pending, which ");
      expect(out).toMatch(/ALTER TABLE (public\.)?embedd_2_pending RENAME TO embedd_2_pending_other;/);
    }
    const { out } = await embedd(database, "run", "--once");
    expect(out).toContain("ALTER TABLE public.embedd_2_vector RENAME TO embedd_2_vector_other;");
    await database.query("ALTER TABLE public.embedd_2_pending RENAME TO embedd_2_pending_other");
    await succeeds(database, "watch docs --content title");
    expect(await named(database)).toMatchObject({ embedd_2_pending: "docs", embedd_2_vector: null });
    await succeeds(database, "unwatch docs");
    expect(await named(database)).toEqual({ embedd_2_pending_other: null, embedd_2_vector: null });
  });

  it("a table of his as the name for an old index does not stop the swap of a switch", async () => {
    const { database, asStranger } = await withStranger();
    await asStranger("create table docs_idx_previous ()");
    await database.query(`create index docs_idx on docs (title); create index docs_new on docs (body);
      select embedd.swap_index_names('docs_idx', 'docs_new')`);
    const { rows } = await database.query(
      "select indexname as name, indexdef ~ 'title' as old from pg_indexes where indexname like 'docs\\_idx%' order by 1",
    );
    expect(rows).toEqual([
      { name: "docs_idx", old: false },
      { name: "docs_idx_previous_2", old: true },
    ]);
  });
});

describeServer("what a table's owner calls like embedd's", () => {
  it("is not embedd's: a trigger stays, does not pass for one of embedd's, and may not come last", async () => {
    const { database } = await withStranger();
    await succeeds(database, "watch docs --content body");
    await database.query(`
      create function note() returns trigger language plpgsql as 'begin return new; end';
      create trigger zzz_embedd_2__mine after update on docs for each row execute function note()`);
    await database.query(`
      drop trigger zzz_embedd_2__before_edit on docs;
      create trigger zzz_embedd_2__before_edit before update on docs for each row execute function note()`);
    const { rows } = await database.query("select gap from embedd.status where pipeline_id = 2");
    expect(rows).toEqual([{ gap: "triggers are missing: before_edit" }]);
    await succeeds(database, "unwatch docs");
    const { rows: left } = await database.query(
      "select tgname from pg_trigger where tgrelid = 'docs'::regclass and not tgisinternal order by 1",
    );
    expect(left).toEqual([{ tgname: "zzz_embedd_2__before_edit" }, { tgname: "zzz_embedd_2__mine" }]);
    await database.query("alter trigger zzz_embedd_2__before_edit on docs rename to zzz_embedd_last");
    expect(await embedd(database, "watch", "docs", "--content", "body")).toMatchObject({
      code: 2,
      out: expect.stringContaining("ALTER TRIGGER zzz_embedd_last ON docs RENAME TO") as string,
    });
  });

  it("is not dropped with embedd's columns", async () => {
    const { database } = await withStranger();
    await succeeds(database, "watch docs --content body");
    await database.query(
      "alter table docs rename embedding to vec; alter table docs add embedding text default 'precious'",
    );
    await database.query("select embedd.unwatch('docs', drop_columns => true)");
    const { rows } = await database.query<{ name: string }>(
      "select attname as name from pg_attribute where attrelid = 'docs'::regclass and attnum > 0 and not attisdropped",
    );
    expect(rows.map(({ name }) => name)).toEqual(["id", "title", "body", "embedding"]);
  });
});
