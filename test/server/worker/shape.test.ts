import { describe, expect, it } from "vitest";
import { loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import { claimPending } from "#embedd/worker/claim/claim.sql.js";
import { readRows } from "#embedd/worker/claim/read-rows.sql.js";
import { completeRows, findHeld } from "#embedd/worker/write/complete.sql.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider, hashVector } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { expectVectors } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

const error = async (relation: string) =>
  (
    await db.query<{ error: string | null }>("select error from embedd.status where relation = $1", [
      relation,
    ])
  ).rows[0]?.error ?? null;

const embedded = (table: string, count: number) =>
  waitFor(
    async () => (await db.query(`select from ${table} where embedding is not null`)).rowCount === count,
    { what: `${count} vectors in ${table}` },
  );

async function watched(name: string): Promise<void> {
  await db.query(
    `create table ${name} (id int primary key, body text, embedding vector(384), embedding_model text)`,
  );
  await db.query("select embedd.watch($1, '{body}')", [name]);
}

describeServer("a table that changes its shape under a running worker", () => {
  it.each([
    [
      "a dropped model column",
      "alter table NAME drop embedding_model cascade",
      "alter table NAME add embedding_model text; select embedd.repair('NAME', existing => 'keep')",
      /gone: embedding_model/,
    ],
    [
      "a dropped content column",
      "alter table NAME drop body cascade",
      "alter table NAME add body text; select embedd.repair('NAME', existing => 'keep')",
      /gone: body/,
    ],
  ])(
    "with %s is reported and not served, other tables are, and it resumes once repaired",
    async (what, damage, repair, message) => {
      const name = what.replaceAll(" ", "_");
      await watched(name);
      await startTestWorker(db, hashProvider(), { pollIntervalMs: 500 });
      await db.query(`insert into ${name} values (1, 'before')`);
      await embedded(name, 1);
      await db.query(damage.replace("NAME", name));
      await waitFor(async () => message.test((await error(name)) ?? ""), {
        what: "the state in embedd.status",
      });
      await db.query("insert into embedd.chunks (source, content) values ($1, 'the others go on')", [name]);
      await waitFor(
        async () =>
          (await db.query("select from embedd.chunks where source = $1 and embedding is not null", [name]))
            .rowCount === 1,
        { what: "another pipeline's row" },
      );
      await db.query(repair.replaceAll("NAME", name));
      await db.query(`insert into ${name} (id, body) values (2, 'after')`);
      await embedded(name, 2);
      await waitFor(async () => (await error(name)) === null, { what: "the state to be cleared" });
    },
  );

  it.each([
    ["content", "body", "text"],
    ["key", "id", "nr"],
    ["embedding", "embedding", "vec"],
    ["model", "embedding_model", "made by"],
  ])(
    "is served under the new name of a renamed %s column, and edits drop the vector",
    async (_, from, to) => {
      const name = `followed_${from}`;
      const names = Object.fromEntries(
        ["id", "body", "embedding", "embedding_model"].map((column) => [
          column,
          `"${column === from ? to : column}"`,
        ]),
      );
      await watched(name);
      await startTestWorker(db, hashProvider(), { pollIntervalMs: 500 });
      await db.query(`insert into ${name} values (1, 'before')`);
      await embedded(name, 1);
      await db.query(`alter table ${name} rename "${from}" to "${to}"`);
      await db.query(`insert into ${name} (${names["id"]}, ${names["body"]}) values (2, 'after')`);
      await waitFor(
        async () =>
          (await db.query(`select from ${name} where ${names["embedding"]} is not null`)).rowCount === 2,
        { what: "the vectors under the new name" },
      );
      expect(await error(name)).toBeNull();
      const { rows } = await db.query(
        `update ${name} set ${names["body"]} = 'edited' where ${names["id"]} = 1
       returning ${names["embedding"]} is null and ${names["embedding_model"]} is null as dropped`,
      );
      expect(rows).toEqual([{ dropped: true }]);
    },
  );

  it("with a template follows renamed columns, also when two swap their names", async () => {
    await db.query(`create table swapped (id int primary key, a text, b text, embedding vector(384), embedding_model text);
      select embedd.watch('swapped', '{a,b}', template => '{{{a}}}: {b}')`);
    await db.query(
      "alter table swapped rename a to c; alter table swapped rename b to a; alter table swapped rename c to b",
    );
    await db.query("select embedd.follow_names()");
    expect(
      (
        await db.query(
          "select content_columns, template from embedd.pipelines where relation = 'swapped'::regclass",
        )
      ).rows,
    ).toEqual([{ content_columns: ["b", "a"], template: "{{{b}}}: {a}" }]);
  });

  it("keeps its types: PostgreSQL refuses to change that of a content column", async () => {
    await watched("typed");
    await expect(db.query("alter table typed alter body type varchar")).rejects.toMatchObject({
      code: "0A000",
    });
  });

  it("is served under its new name, and no longer served once it is dropped", async () => {
    await watched("moves");
    await startTestWorker(db, hashProvider(), { pollIntervalMs: 500 });
    await db.query("alter table moves rename to moved; insert into moved values (1, 'renamed')");
    await embedded("moved", 1);
    await db.query("drop table moved");
    await waitFor(
      async () =>
        (
          await db.query(
            "select from embedd.pipelines where error = 'its table is gone; embedd unwatch public.moved'",
          )
        ).rowCount === 1,
      { what: "the state of the dropped table" },
    );
    await db.query("insert into embedd.chunks (source, content) values ('after the drop', 'goes on')");
    await waitFor(
      async () =>
        (
          await db.query(
            "select from embedd.chunks where source = 'after the drop' and embedding is not null",
          )
        ).rowCount === 1,
      { what: "another pipeline's row" },
    );
  });

  it("is served again when watch is called with the new names", async () => {
    await watched("renamed");
    await startTestWorker(db, hashProvider(), { pollIntervalMs: 500 });
    await db.query("alter table renamed rename body to words; select embedd.watch('renamed', '{words}')");
    await db.query("insert into renamed (id, words) values (1, 'new name')");
    await embedded("renamed", 1);
    expect(
      (await db.query("select from embedd.pipelines where relation = 'renamed'::regclass")).rowCount,
    ).toBe(1);
  });

  it("with a key that is no longer unique gets no vector, and says what to type", async () => {
    await db.query(`
      create table tenants (tenant int not null default 1, id int primary key, body text,
        embedding vector(384), embedding_model text);
      select embedd.watch('tenants', '{body}')`);
    const { provider, held, release } = holdingProvider();
    await startTestWorker(db, provider, { pollIntervalMs: 500 });
    await db.query("insert into tenants values (1, 1, 'one')");
    await waitFor(held, { what: "the batch in flight" });
    await db.query(`
      alter table tenants drop constraint tenants_pkey, add primary key (tenant, id);
      insert into tenants values (2, 1, 'two'), (3, 1, 'three')`);
    release();
    await waitFor(async () => /\(id\) is no longer a unique key/.test((await error("tenants")) ?? ""), {
      what: "the state in embedd.status",
    });
    expect(await error("tenants")).toContain("embedd repair public.tenants");
    expect((await db.query("select from tenants where embedding is not null")).rowCount).toBe(0);
    await db.query("select embedd.repair('tenants')");
    await expectVectors(db, "tenants", { 1: "one", 2: "two", 3: "three" }, { key: "tenant" });
    expect((await db.query("select from embedd.failures")).rowCount).toBe(0);
  });

  it("is neither claimed, read nor written by a key that has ceased to be unique", async () => {
    await db.query(`
      create table doubles (tenant int not null, id int primary key, body text,
        embedding vector(384), embedding_model text);
      select embedd.watch('doubles', '{body}');
      insert into doubles values (1, 1, 'one')`);
    const pipeline = (await loadPipelines(db.pool)).pipelines.find((p) => p.relation === "public.doubles");
    if (pipeline === undefined) throw new Error("doubles is not watched");
    const options = { worker: 0, leaseMs: 60_000, model: "hash", maxChars: 100, maxClaimChars: 100 };
    const claim = () => claimPending(db.pool, pipeline, { ...options, oldest: 10, newest: 10, cursor: null });
    const claimed = await claim();
    const work = { kind: "pending", model: "hash", maxChars: 100 } as const;
    const { rows } = await readRows(db.pool, pipeline, claimed?.keys ?? [], work);
    expect(rows).toHaveLength(1);
    await db.query(`
      alter table doubles drop constraint doubles_pkey;
      insert into doubles values (2, 1, 'two'), (3, 1, 'three')`);
    const leaseId = claimed?.leaseId ?? "";
    const embeddedRows = rows.map((row) => ({ ...row, embedding: hashVector("one") }));
    const completion = { kind: "pending", leaseId, model: "hash", rows: embeddedRows } as const;
    expect(await completeRows(db.pool, pipeline, completion)).toEqual(new Set());
    expect(await findHeld(db.pool, pipeline, completion)).toEqual(new Set());
    expect((await readRows(db.pool, pipeline, claimed?.keys ?? [], work)).rows).toEqual([]);
    await db.query("delete from embedd.leases");
    expect(await claim()).toBeNull();
    // A partial index, or one on more columns, is no key.
    await db.query("create unique index on doubles (id) where tenant = 1");
    await db.query("create unique index on doubles (tenant, id)");
    expect(await claim()).toBeNull();
    expect((await db.query("select from doubles where embedding is not null")).rowCount).toBe(0);
    await db.query("drop table doubles");
    await db.query("delete from embedd.pipelines where id = $1", [pipeline.id]);
  });

  describe("charges no row when a key's type changes", () => {
    const ddl = (name: string, type: string) =>
      `create table ${name} (id ${type} primary key, body text, embedding vector(384), embedding_model text);
       select embedd.watch('${name}', '{body}')`;

    async function chargedRows(run: () => Promise<void>): Promise<number> {
      await db.query(`
        create table charged (key text, code text);
        create function charged() returns trigger language plpgsql as $$
          begin insert into charged values (new.key, new.code); return null; end $$;
        create trigger charged after insert on embedd.failures for each row execute function charged()`);
      await run();
      const { rowCount } = await db.query("select from charged");
      await db.query("drop trigger charged on embedd.failures; drop function charged; drop table charged");
      return rowCount ?? 0;
    }

    it("from integer to bigint", async () => {
      await db.query(ddl("grown", "int"));
      await startTestWorker(db, hashProvider(), { pollIntervalMs: 600_000 });
      await db.query("insert into grown values (1, 'small')");
      await embedded("grown", 1);
      const charged = await chargedRows(async () => {
        await db.query("alter table grown alter id type bigint");
        await db.query("insert into grown select 3000000000 + i, 'big ' || i from generate_series(1, 50) i");
        await embedded("grown", 51);
      });
      expect(charged).toBe(0);
    });

    it.each([
      ["label", "mood", "alter type mood rename value 'sad' to 'gloomy'", "'sad'"],
      ["uuid", "text", "alter table NAME alter id type uuid using id::uuid", "gen_random_uuid()::text"],
      ["short", "varchar(40)", "alter table NAME alter id type char(36)", "gen_random_uuid()::text"],
      ["checked", "code", "alter domain code add check (value > 100) not valid", "7"],
    ])("while a batch is in flight: %s", async (name, type, change, value) => {
      if (type === "mood") await db.query("create type mood as enum ('happy', 'sad')");
      if (type === "code") await db.query("create domain code as int");
      await db.query(ddl(name, type));
      const { provider, held, release } = holdingProvider();
      await startTestWorker(db, provider, { pollIntervalMs: 600_000 });
      const charged = await chargedRows(async () => {
        await db.query(`insert into ${name} values (${value}, 'a text')`);
        await waitFor(held, { what: "the batch in flight" });
        await db.query(change.replace("NAME", name));
        release();
        await embedded(name, 1);
      });
      expect(charged).toBe(0);
    });
  });
});

/** A provider whose first call waits until it is released. */
function holdingProvider() {
  const inner = hashProvider();
  let calls = 0;
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const provider = {
    ...inner,
    embed: async (texts: readonly string[]) => {
      if (calls++ === 0) await released;
      return inner.embed(texts);
    },
  };
  return { provider, held: () => calls > 0, release };
}
