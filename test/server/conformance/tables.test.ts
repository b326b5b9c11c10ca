import { loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import { describe, expect, it } from "vitest";
import pgvector from "pgvector";
import { watch } from "#embedd/admin/watch.js";
import { useWorker } from "../../helpers/file-worker.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider, hashVector } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { createRole, expectVectors, watchTable } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();
const vectorColumns = "embedding vector(384), embedding_model text";

async function insertAndEdit(relation: string): Promise<void> {
  await db.query(`insert into ${relation} (id, body) select i, 'row ' || i from generate_series(1, 50) i`);
  const rows = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [String(i + 1), `row ${i + 1}`]));
  await expectVectors(db, relation, rows);
  await db.query(`update ${relation} set body = 'edited' where id = 7`);
  await expectVectors(db, relation, { ...rows, 7: "edited" });
}

describe("a table", () => {
  useWorker(db);

  it("that is unlogged", async () => {
    const ddl = `create unlogged table unlogged (id int primary key, body text, ${vectorColumns})`;
    await watchTable(db, { relation: "unlogged", ddl });
    await insertAndEdit("unlogged");
  });

  it("with a fillfactor", async () => {
    const ddl = `create table roomy (id int primary key, body text, ${vectorColumns}) with (fillfactor = 50)`;
    await watchTable(db, { relation: "roomy", ddl });
    await insertAndEdit("roomy");
  });

  it("with an HNSW index of its own, which finds the new vectors", async () => {
    await watchTable(db, {
      relation: "indexed",
      ddl: `create table indexed (id int primary key, body text, ${vectorColumns});
        create index on indexed using hnsw (embedding vector_cosine_ops)`,
    });
    await insertAndEdit("indexed");
    const client = await db.pool.connect();
    try {
      await client.query("begin; set local enable_seqscan = off");
      const nearest = "select id from indexed order by embedding <=> $1 limit 1";
      const query = [pgvector.toSql(Array.from(hashVector("edited")))];
      const plan = await client.query<Record<string, string>>(`explain ${nearest}`, query);
      expect(JSON.stringify(plan.rows)).toContain("indexed_embedding_idx");
      expect((await client.query(nearest, query)).rows).toEqual([{ id: 7 }]);
      await client.query("commit");
    } finally {
      client.release();
    }
  });

  // Triggers of one event run in the order of their names' bytes; embedd's begin with zzz_.
  it.each([
    ["early", "aaa_tidy"],
    ["late", "zz_tidy"],
  ])("with BEFORE triggers that change the text, with a name that sorts %s", async (_, name) => {
    const relation = `"with ${name}"`;
    await watchTable(db, {
      relation,
      ddl: `create table ${relation} (id int primary key, title text, body text, ${vectorColumns});
        create or replace function tidy() returns trigger language plpgsql as $$
          begin new.body := upper(trim(coalesce(new.title, new.body))); return new; end $$;
        create trigger "${name}" before insert or update on ${relation} for each row execute function tidy()`,
    });
    await db.query(`insert into ${relation} (id, body) values (1, ' as inserted ')`);
    await expectVectors(db, relation, { 1: "AS INSERTED" });
    await db.query(`update ${relation} set body = ' as updated '`);
    await expectVectors(db, relation, { 1: "AS UPDATED" });
    // Only the trigger changes the text.
    await db.query(`update ${relation} set title = 'from the title'`);
    await expectVectors(db, relation, { 1: "FROM THE TITLE" });
  });

  it.each(["zzzz_tidy", "überarbeiten"])(
    "is refused with a BEFORE trigger that runs after embedd's own: %s",
    async (name) => {
      const relation = `"late ${name}"`;
      await db.query(`create table ${relation} (id int primary key, body text, ${vectorColumns});
      create or replace function late() returns trigger language plpgsql as $$ begin return new; end $$;
      create trigger "${name}" before update on ${relation} for each row execute function late()`);
      await expect(db.query("select embedd.watch($1, '{body}')", [relation])).rejects.toMatchObject({
        code: "EMBDD",
        constraint: "later_trigger",
        message: expect.stringContaining(name) as string,
      });
      // A trigger that is created later is reported too.
      await db.query(`drop trigger "${name}" on ${relation}`);
      await db.query("select embedd.watch($1, '{body}')", [relation]);
      await db.query(
        `create trigger "${name}" before update on ${relation} for each row execute function late()`,
      );
      const { broken } = await loadPipelines(db.pool);
      expect(broken.map(({ reason }) => reason)).toEqual([expect.stringContaining(name)]);
      await db.query(
        `drop table ${relation}; delete from embedd.pipelines where relation not in (select oid from pg_class)`,
      );
    },
  );

  it("with BEFORE triggers that count every UPDATE and refuse nothing", async () => {
    await watchTable(db, {
      relation: "audited",
      ddl: `create table audited (id int primary key, body text, updates int default 0, ${vectorColumns});
        create function count_updates() returns trigger language plpgsql as $$
          begin new.updates := old.updates + 1; return new; end $$;
        create trigger count_updates before update on audited for each row execute function count_updates()`,
    });
    await db.query("insert into audited (id, body) values (1, 'one')");
    await expectVectors(db, "audited", { 1: "one" });
    expect((await db.query("select updates from audited")).rows).toEqual([{ updates: 1 }]);
  });

  it("with a stored generated content column", async () => {
    await watchTable(db, {
      relation: "generated",
      ddl: `create table generated (id int primary key, title text, body text, other int, ${vectorColumns},
        whole text generated always as (coalesce(title, '') || ': ' || coalesce(body, '')) stored)`,
      content: ["whole"],
    });
    await db.query("insert into generated (id, title, body) values (1, 'T', 'b'), (2, 'U', null)");
    await expectVectors(db, "generated", { 1: "T: b", 2: "U: " });
    await db.query("update generated set title = 'New' where id = 1");
    await db.query("update generated set body = 'new' where id = 2");
    await expectVectors(db, "generated", { 1: "New: b", 2: "U: new" });
    const { rows } = await db.query("update generated set other = 1 returning embedding is null as gone");
    expect(rows).toEqual([{ gone: false }, { gone: false }]);
  });

  it("with a halfvec column", async () => {
    const ddl =
      "create table half (id int primary key, body text, embedding halfvec(384), embedding_model text)";
    await watchTable(db, { relation: "half", ddl });
    await db.query("insert into half (id, body) values (1, 'half the size')");
    await expectVectors(db, "half", { 1: "half the size" }, { tolerance: 1e-3 });
    await db.query("update half set body = 'edited'");
    await expectVectors(db, "half", { 1: "edited" }, { tolerance: 1e-3 });
  });

  it("with two embedding columns, each of its own text", async () => {
    const relation = "double";
    await watchTable(db, {
      relation,
      ddl: `create table double (id int primary key, title text, body text,
        title_vector vector(384), title_vector_model text, body_vector halfvec(384), made_by text)`,
      content: ["title"],
      embedding: "title_vector",
    });
    const ddl = "select";
    await watchTable(db, {
      relation,
      ddl,
      content: ["title", "body"],
      embedding: "body_vector",
      modelColumn: "made_by",
    });
    const expectBoth = async (
      titles: Record<string, string | null>,
      bodies: Record<string, string | null>,
    ) => {
      await expectVectors(db, relation, titles, { embedding: "title_vector" });
      await expectVectors(db, relation, bodies, {
        embedding: "body_vector",
        modelColumn: "made_by",
        tolerance: 1e-3,
      });
    };
    await db.query("insert into double (id, title, body) values (1, 'T', 'b'), (2, null, 'only a body')");
    await expectBoth({ 1: "T", 2: null }, { 1: "T\nb", 2: "only a body" });
    const { rows } = await db.query(
      "update double set body = 'changed' where id = 1 returning title_vector is null as title, body_vector is null as body",
    );
    expect(rows).toEqual([{ title: false, body: true }]);
    await expectBoth({ 1: "T", 2: null }, { 1: "T\nchanged", 2: "only a body" });
    await db.query("update double set title = 'now with a title' where id = 2");
    await expectBoth(
      { 1: "T", 2: "now with a title" },
      { 1: "T\nchanged", 2: "now with a title\nonly a body" },
    );
  });
});

describeServer("a table with row-level security", () => {
  async function watchSecured(
    relation: string,
    policy = "",
  ): Promise<{ role: string; url: string; pipeline: number }> {
    const worker = await createRole(db);
    await db.query(`create table ${relation} (id int primary key, body text, ${vectorColumns});
      alter table ${relation} enable row level security; ${policy.replaceAll("ROLE", worker.role)};
      insert into ${relation} (id, body) values (1, 'behind a policy');
      select embedd.grant_worker('${worker.role}')`);
    const client = await db.pool.connect();
    try {
      return {
        ...worker,
        pipeline: await watch(client, { relation, content: ["body"], embedding: "embedding" }),
      };
    } finally {
      client.release();
    }
  }
  const errorOf = async (pipeline: number) =>
    (
      await db.query<{ error: string | null }>("select error from embedd.status where pipeline_id = $1", [
        pipeline,
      ])
    ).rows[0]?.error ?? null;

  it("that hides its rows from the worker is not served, and embedd.status says so; BYPASSRLS fixes it", async () => {
    const { role, url, pipeline } = await watchSecured("secured");
    await startTestWorker(db, hashProvider(), { databaseUrl: url, pollIntervalMs: 1_000 });
    const error = await waitFor(async () => (await errorOf(pipeline)) ?? undefined, { what: "the error" });
    expect(error).toMatch(/row-level security hides its rows/);
    expect(error).toContain(`ALTER ROLE ${role} BYPASSRLS`);
    await expectVectors(db, "secured", { 1: null });
    await db.query(`alter role ${role} bypassrls`);
    await expectVectors(db, "secured", { 1: "behind a policy" });
    expect(await errorOf(pipeline)).toBeNull();
  });

  it("with a policy for the worker is served", async () => {
    const { url, pipeline } = await watchSecured(
      "opened",
      "create policy worker on opened to ROLE using (true)",
    );
    await startTestWorker(db, hashProvider(), { databaseUrl: url });
    await expectVectors(db, "opened", { 1: "behind a policy" });
    expect(await errorOf(pipeline)).toBeNull();
  });
});
