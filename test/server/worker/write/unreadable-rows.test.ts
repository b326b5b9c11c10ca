import { expect, it } from "vitest";
import { migrate } from "#embedd/admin/migrate.js";
import { repair } from "#embedd/admin/repair.js";
import { switchModel } from "#embedd/admin/switch-model/switch-model.js";
import { watch } from "#embedd/admin/watch.js";
import { withOwnerClient } from "#embedd/database/pool.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { destroyLongValues } from "../../../helpers/damage.js";
import type { Database } from "../../../helpers/database.js";
import { hashProvider } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { expectVectors } from "../../../helpers/watched-table.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();
const columns = "views int default 0, note text, embedding vector(384), embedding_model text";

/** Too random to be compressed, so it is stored apart from its row. */
const longText = "(select string_agg(md5(i::text), ' ') from generate_series(1, 1000) i)";

/** Destroys the stored parts of all long values of a table. */
async function damage(relation: string): Promise<void> {
  await destroyLongValues(db, relation);
  await expect(db.query(`select count(md5(body)) from ${relation}`)).rejects.toMatchObject({ code: "XX001" });
}

const vector = "(select array_agg(0.5)::vector from generate_series(1, 384))";

/** Row 2 is the one that cannot be read. An index on `views` makes every UPDATE evaluate all indexes. */
async function damagedTable(relation: string, { embedded }: { embedded: boolean }): Promise<void> {
  await db.query(`
    create table ${relation} (id int primary key, body text, ${columns});
    create index on ${relation} (views);
    alter table ${relation} alter column body set storage external;
    insert into ${relation} (id, body) values (1, 'one'), (2, ${longText}), (3, 'three');
    select embedd.watch('${relation}', '{body}')`);
  if (embedded) await db.query(`update ${relation} set embedding = ${vector}, embedding_model = 'hash'`);
  await damage(relation);
}

const hasVector = async (relation: string): Promise<boolean> =>
  (await db.query(`select from ${relation} where id = 2 and embedding is not null`)).rowCount === 1;

/** Statements on row 2, none of which names a text that can be read before. */
const statements: [what: string, sql: string, keepsVector: boolean][] = [
  ["changes another column", "update NAME set views = views + 1 where id = 2", true],
  ["changes another column that is no part of an index", "update NAME set note = 'n' where id = 2", true],
  ["saves the whole row as it is", "update NAME set body = body, views = views + 1 where id = 2", false],
  ["repairs the text", "update NAME set body = 'two' where id = 2", false],
  [
    "replaces the text by one of the same length",
    "update NAME set body = repeat('x', 32999) where id = 2",
    false,
  ],
  ["empties the text", "update NAME set body = null where id = 2", false],
  ["deletes the row", "delete from NAME where id = 2", false],
];

describeServer("an application that writes to a row that PostgreSQL cannot read", () => {
  for (const embedded of [true, false]) {
    it.each(statements)(`%s (${embedded ? "with" : "without"} a vector)`, async (what, sql, keepsVector) => {
      const relation = `damaged_${what.replaceAll(/\W/g, "_")}_${String(embedded)}`.slice(-60);
      await damagedTable(relation, { embedded });
      await db.query(sql.replaceAll("NAME", relation));
      expect(await hasVector(relation)).toBe(embedded && keepsVector);
      await db.query(`update ${relation} set views = views + 1`);
      await db.query(`drop table ${relation}; delete from embedd.pipelines where relation::text !~ 'chunks'`);
    });
  }

  it("loses the vector where a trigger of its own may have changed the text", async () => {
    await damagedTable("triggered", { embedded: true });
    await db.query(`create function touch() returns trigger language plpgsql as $$
        begin new.note := 'touched'; return new; end $$;
      create trigger touch before update on triggered for each row execute function touch();
      update triggered set views = 1 where id = 2`);
    expect(await hasVector("triggered")).toBe(false);
    await db.query("drop table triggered; delete from embedd.pipelines where relation::text !~ 'chunks'");
  });

  it("may use a type whose cast to text raises", async () => {
    await db.query(`
      create type secret as (word text);
      create function secret_text(secret) returns text language plpgsql immutable strict as $$
      begin
        if $1.word like 'bad%' then raise exception 'no text' using errcode = '22012'; end if;
        return $1.word;
      end $$;
      create cast (secret as text) with function secret_text(secret);
      create table casts (id int primary key, body secret, ${columns});
      select embedd.watch('casts', '{body}');
      insert into casts (id, body) values (1, row('one')), (2, row('bad'))`);
    const vectors = async () =>
      (
        await db.query<{ there: boolean }>("select embedding is not null as there from casts order by id")
      ).rows.map(({ there }) => there);
    const fill = () => db.query(`update casts set embedding = ${vector}, embedding_model = 'hash'`);
    await fill();
    await db.query("update casts set views = 1");
    expect(await vectors()).toEqual([true, true]);
    await db.query("update casts set body = row('bad too')");
    expect(await vectors()).toEqual([false, false]);
    await fill();
    await db.query("update casts set body = row('good')");
    expect(await vectors()).toEqual([false, false]);
    await startTestWorker(db, hashProvider());
    await expectVectors(db, "casts", { 1: "good", 2: "good" });
    await db.query("drop table casts; delete from embedd.pipelines where relation::text !~ 'chunks'");
  });

  it("may write bytes that are no text to a SQL_ASCII database", async () => {
    const ascii = await db.createDatabase("SQL_ASCII");
    await migrate(ascii.url);
    await ascii.query(`
      create table bytes (id int primary key, body text, ${columns});
      select embedd.watch('bytes', '{body}');
      insert into bytes (id, body) values (1, E'broken \\xff'), (2, repeat(E'\\xff', 100000));
      update bytes set embedding = ${vector}, embedding_model = 'hash';
      update bytes set views = 1;
      update bytes set body = body;
      update bytes set body = E'\\xfe' || body`);
    expect((await ascii.query("select from bytes where embedding is null")).rowCount).toBe(2);
    await ascii.drop();
  });
});

describeServer("the triggers of a table with long texts", () => {
  const chunks = async (relation: string) => {
    const { rows } = await db.query<{ toast: string }>(
      "select reltoastrelid::regclass::text as toast from pg_class where oid = $1::regclass",
      [relation],
    );
    return (await db.query(`select ctid::text, chunk_id from ${rows[0]?.toast ?? ""} order by 1`)).rows;
  };

  it.each([
    ["usual", "embedding vector(384), embedding_model text", ""],
    ["other", "vec vector(384), vec_model text", ", embedding_column => 'vec'"],
  ])("do not store an unchanged text again (%s names)", async (name, vectors, argument) => {
    const relation = `stored_${name}`;
    const embedding = name === "usual" ? "embedding" : "vec";
    await db.query(`
      create table ${relation} (id int primary key, body text, page text, views int default 0, ${vectors});
      insert into ${relation} values (1, ${longText}, ${longText});
      update ${relation} set ${embedding} = ${vector}, ${embedding}_model = 'hash';
      select embedd.watch('${relation}', '{body}', existing => 'keep'${argument});
      create function ${relation}() returns trigger language plpgsql as 'begin return new; end';
      create trigger own before update on ${relation} for each row execute function ${relation}()`);
    const before = await chunks(relation);
    expect(before.length).toBeGreaterThan(1);
    await db.query(`update ${relation} set views = 1`);
    await db.query(`update ${relation} set body = body, page = page, ${embedding} = ${embedding}`);
    expect(await chunks(relation)).toEqual(before);
    expect((await db.query(`select from ${relation} where ${embedding} is null`)).rowCount).toBe(0);
    await db.query(`drop table ${relation}; delete from embedd.pipelines where relation::text !~ 'chunks'`);
  });

  it("have short conditions, which PostgreSQL parses in every statement", async () => {
    await db.query(`
      create table conditions (id int primary key, title text, body text, ${columns});
      select embedd.watch('conditions', '{title,body}')`);
    // PostgreSQL 16 and 18 each added a field, empty here, to every column that a stored condition names.
    const { rows } = await db.query<{ named: number; unnamed: number }>(String.raw`
      with conditions as (
        select tgattr, length(regexp_replace(tgqual, ' :var(nullingrels \(b\)|returningtype 0)', '', 'g')) as size
        from pg_trigger where tgrelid = 'conditions'::regclass)
      select sum(size)::int as named, sum(size) filter (where tgattr = '')::int as unnamed from conditions`);
    expect(rows[0]?.named).toBeLessThan(18_000);
    expect(rows[0]?.unnamed).toBeLessThan(14_000);
    await db.query("drop table conditions; delete from embedd.pipelines where relation::text !~ 'chunks'");
  });
});

describeServer("a row that PostgreSQL cannot read", () => {
  it("stops neither watch nor repair nor switch-model", async () => {
    await damagedTable("kept", { embedded: false });
    await db.query("select embedd.unwatch('kept')");
    await withOwnerClient(db.url, async (client) => {
      const id = await watch(client, { relation: "kept", content: ["body"], embedding: "embedding" });
      const indexes = async () =>
        (
          await db.query(
            `select i.indisvalid from pg_index i join pg_class x on x.oid = i.indexrelid
             where x.relname = embedd.pending_index_name($1)`,
            [id],
          )
        ).rows;
      expect(await indexes()).toEqual([{ indisvalid: true }]);
      await db.query(`drop index embedd_${id}_pending`);
      await repair(client, { relation: "kept" });
      expect(await indexes()).toEqual([{ indisvalid: true }]);
    });
    const worker = await startTestWorker(db, hashProvider({ model: "a" }), { maxAttempts: 1 });
    const dead = () =>
      waitFor(async () => (await db.query("select from embedd.failures where dead")).rowCount === 1, {
        what: "the unreadable row to be dead",
      });
    await dead();
    await worker.idle();
    await startTestWorker(db, hashProvider({ model: "b" }), { maxAttempts: 1 });
    await withOwnerClient(db.url, (client) =>
      switchModel(client, {
        relation: "kept",
        embedding: "embedding",
        model: "b",
        dimensions: 384,
        pollMs: 20,
        maxBehind: 0,
      }),
    );
    expect((await db.query("select id, embedding_model as model from kept order by id")).rows).toEqual([
      { id: 1, model: "b" },
      { id: 2, model: null },
      { id: 3, model: "b" },
    ]);
    await db.query("update kept set views = 1");
    await db.query("select embedd.unwatch('kept'); drop table kept");
  });
});

describeServer("a long text of white space alone", () => {
  const status = async (on: Pick<Database, "query">) =>
    (
      await on.query(
        "select pending::int, blank::int, failed::int, dead::int, done::int from embedd.status where relation = 'spaces'",
      )
    ).rows[0];

  it("is blank, not failed, and an edit makes its row pending", async () => {
    await db.query(`
      create table spaces (id int primary key, body text, ${columns});
      select embedd.watch('spaces', '{body}');
      insert into spaces (id, body) values (1, repeat(' ', 100000)), (2, ' '), (3, 'three')`);
    const worker = await startTestWorker(db, hashProvider());
    await worker.idle();
    expect(await status(db)).toEqual({ pending: 0, blank: 2, failed: 0, dead: 0, done: 1 });
    await db.query("update spaces set views = 1");
    await worker.idle();
    expect(await status(db)).toEqual({ pending: 0, blank: 2, failed: 0, dead: 0, done: 1 });
    await db.query("update spaces set body = 'x' || body where id = 1");
    await waitFor(async () => (await status(db))?.["done"] === 2, { what: "the vector" });
    expect(await status(db)).toEqual({ pending: 0, blank: 1, failed: 0, dead: 0, done: 2 });
  });
});
