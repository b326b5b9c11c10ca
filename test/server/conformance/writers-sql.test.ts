import { describe, expect, it } from "vitest";
import { useWorker } from "../../helpers/file-worker.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { connectWriter, createRole, expectVectors, watchTable } from "../../helpers/watched-table.js";

const db = useDatabase();
const provider = useWorker(db);

describe("a writer with SQL:", () => {
  it("INSERT of many rows", async () => {
    await watchTable(db, { relation: "many" });
    await db.query(
      "insert into many (id, body) values (1, 'one'), (2, 'two'), (3, null), (4, ' \t'), (5, 'five')",
    );
    await expectVectors(db, "many", { 1: "one", 2: "two", 3: null, 4: null, 5: "five" });
  });

  it("INSERT … SELECT", async () => {
    await watchTable(db, { relation: "selected" });
    await db.query("insert into selected (id, body) select i, 'number ' || i from generate_series(1, 300) i");
    await expectVectors(
      db,
      "selected",
      Object.fromEntries(Array.from({ length: 300 }, (_, i) => [String(i + 1), `number ${i + 1}`])),
    );
  });

  it("INSERT … ON CONFLICT DO UPDATE, which inserts and updates in one statement", async () => {
    await watchTable(db, { relation: "upserted" });
    const upsert = (values: string) =>
      db.query(
        `insert into upserted (id, body) values ${values} on conflict (id) do update set body = excluded.body`,
      );
    await upsert("(1, 'new')");
    await expectVectors(db, "upserted", { 1: "new" });
    await upsert("(1, 'changed')");
    await expectVectors(db, "upserted", { 1: "changed" });
    await upsert("(1, 'changed again'), (2, 'new as well')");
    await expectVectors(db, "upserted", { 1: "changed again", 2: "new as well" });
    await upsert("(2, 'new as well'), (3, 'third')");
    await expectVectors(db, "upserted", { 1: "changed again", 2: "new as well", 3: "third" });
    // The same text keeps its vector: it was not computed again.
    expect(provider.texts.filter((text) => text === "new as well")).toHaveLength(1);
  });

  it("INSERT … ON CONFLICT DO NOTHING", async () => {
    await watchTable(db, { relation: "untouched" });
    await db.query("insert into untouched (id, body) values (1, 'first')");
    await expectVectors(db, "untouched", { 1: "first" });
    await db.query(
      "insert into untouched (id, body) values (1, 'second'), (2, 'other') on conflict do nothing",
    );
    await expectVectors(db, "untouched", { 1: "first", 2: "other" });
  });

  it("MERGE, which inserts, updates and deletes in one statement", async () => {
    await watchTable(db, { relation: "merged" });
    const merge = (values: string) =>
      db.query(`merge into merged t using (values ${values}) as s (id, body) on t.id = s.id
        when matched and s.body is null then delete
        when matched then update set body = s.body
        when not matched then insert (id, body) values (s.id, s.body)`);
    await merge("(1, 'one'), (2, 'two')");
    await expectVectors(db, "merged", { 1: "one", 2: "two" });
    await merge("(1, 'one, changed')");
    await expectVectors(db, "merged", { 1: "one, changed", 2: "two" });
    await merge("(1, null), (2, 'two, changed'), (3, 'three')");
    await expectVectors(db, "merged", { 2: "two, changed", 3: "three" });
  });

  it("UPDATE … FROM", async () => {
    await watchTable(db, { relation: "updated" });
    await db.query("insert into updated (id, body) values (1, 'a'), (2, 'b'), (3, 'c')");
    await expectVectors(db, "updated", { 1: "a", 2: "b", 3: "c" });
    const { rows } = await db.query(`update updated t set body = s.body
      from (values (1, 'from elsewhere'), (2, 'from there, too')) as s (id, body) where t.id = s.id
      returning t.id, t.embedding, t.embedding_model`);
    expect(rows).toEqual([1, 2].map((id) => ({ id, embedding: null, embedding_model: null })));
    await expectVectors(db, "updated", { 1: "from elsewhere", 2: "from there, too", 3: "c" });
  });

  it("WITH … INSERT, whose rows another INSERT reads", async () => {
    await watchTable(db, { relation: "cte_first" });
    await watchTable(db, { relation: "cte_second" });
    await db.query(`with first as (insert into cte_first (id, body) values (1, 'x'), (2, 'y') returning id, body)
      insert into cte_second (id, body) select id, 'copy of ' || body from first`);
    await expectVectors(db, "cte_first", { 1: "x", 2: "y" });
    await expectVectors(db, "cte_second", { 1: "copy of x", 2: "copy of y" });
  });

  it("WITH … UPDATE and DELETE together with an INSERT", async () => {
    await watchTable(db, { relation: "cte_from" });
    await watchTable(db, { relation: "cte_to" });
    await db.query("insert into cte_from (id, body) values (1, 'stays'), (2, 'moves')");
    await expectVectors(db, "cte_from", { 1: "stays", 2: "moves" });
    await db.query(`with changed as (update cte_from set body = 'changed' where id = 1),
        moved as (delete from cte_from where id = 2 returning id, body)
      insert into cte_to (id, body) select id, body || ' over' from moved`);
    await expectVectors(db, "cte_from", { 1: "changed" });
    await expectVectors(db, "cte_to", { 2: "moves over" });
  });

  it("a view over the table", async () => {
    await watchTable(db, { relation: "under_view" });
    await db.query("create view over_table as select id, body from under_view");
    await db.query("insert into over_table values (1, 'through the view')");
    await expectVectors(db, "under_view", { 1: "through the view" });
    await db.query("update over_table set body = 'changed through the view'");
    await expectVectors(db, "under_view", { 1: "changed through the view" });
  });

  it("TRUNCATE, and other texts under the same keys", async () => {
    await watchTable(db, { relation: "emptied" });
    await db.query("insert into emptied (id, body) values (1, 'before'), (2, 'before, too')");
    await expectVectors(db, "emptied", { 1: "before", 2: "before, too" });
    await db.query("truncate emptied");
    await db.query("insert into emptied (id, body) values (1, 'after')");
    await expectVectors(db, "emptied", { 1: "after" });
    await db.query("begin; truncate emptied; insert into emptied (id, body) values (2, 'at once'); commit");
    await expectVectors(db, "emptied", { 2: "at once" });
  });
});

describeServer("a transaction", () => {
  it("with a savepoint that is rolled back: what was written in it is not embedded", async () => {
    await watchTable(db, { relation: "saved" });
    const client = await connectWriter(db.url);
    await client.query(`begin;
      insert into saved (id, body) values (1, 'before the savepoint');
      savepoint here;
      insert into saved (id, body) values (2, 'undone');
      update saved set body = 'undone, too' where id = 1;
      rollback to here;
      insert into saved (id, body) values (3, 'after it');
      commit`);
    await expectVectors(db, "saved", { 1: "before the savepoint", 3: "after it" });
    // The INSERT that would wake the worker is rolled back, and its notification too.
    await client.query(`begin; savepoint here; insert into saved (id, body) values (4, 'undone, three');
      rollback to here; update saved set body = 'written after' where id = 3; commit`);
    await expectVectors(db, "saved", { 1: "before the savepoint", 3: "written after" });
    expect(provider.texts.filter((text) => text.startsWith("undone"))).toEqual([]);
  });

  it("with an exception that PL/pgSQL caught", async () => {
    await watchTable(db, { relation: "caught" });
    await db.query(`do $$ begin
      insert into caught (id, body) values (1, 'outside the block');
      begin
        insert into caught (id, body) values (2, 'in the block');
        insert into caught (id, body) values (1, 'twice');
      exception when unique_violation then
        insert into caught (id, body) values (3, 'in the handler');
      end;
    end $$`);
    await expectVectors(db, "caught", { 1: "outside the block", 3: "in the handler" });
  });

  it("of a role that may only INSERT, and may not read embedd's tables", async () => {
    await watchTable(db, { relation: "letterbox" });
    const { role, url } = await createRole(db);
    await db.query(`grant insert on letterbox to ${role}`);
    const client = await connectWriter(url);
    await client.query("insert into letterbox (id, body) values (1, 'posted'), (2, 'posted, too')");
    await expect(client.query("select from letterbox")).rejects.toMatchObject({ code: "42501" });
    await expect(client.query("select from embedd.pipelines")).rejects.toMatchObject({ code: "42501" });
    await expectVectors(db, "letterbox", { 1: "posted", 2: "posted, too" });
  });

  it("of a role that may only UPDATE the text", async () => {
    await watchTable(db, { relation: "editable" });
    const { role, url } = await createRole(db);
    await db.query(`insert into editable (id, body) values (1, 'draft');
      grant select (id), update (body) on editable to ${role}`);
    await expectVectors(db, "editable", { 1: "draft" });
    const client = await connectWriter(url);
    await client.query("update editable set body = 'final' where id = 1");
    await expectVectors(db, "editable", { 1: "final" });
  });
});
