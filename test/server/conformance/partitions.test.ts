import { describe, expect, it } from "vitest";
import { useWorker } from "../../helpers/file-worker.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { expectVectors, watchTable } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

const columns = "region text, id int, body text, embedding vector(384), embedding_model text";
const key = "region || id";

/** A table partitioned by region, with partitions `_eu`, `_us`, and `_us_1`, `_us_2` below the second. */
const watchParts = (relation: string): Promise<number> =>
  watchTable(db, {
    relation,
    ddl: `create table ${relation} (${columns}, primary key (region, id)) partition by list (region);
      create table ${relation}_eu partition of ${relation} for values in ('eu');
      create table ${relation}_us partition of ${relation} for values in ('us') partition by range (id);
      create table ${relation}_us_1 partition of ${relation}_us for values from (0) to (100);
      create table ${relation}_us_2 partition of ${relation}_us for values from (100) to (200);`,
  });

const triggersOf = async (relation: string): Promise<number | null> =>
  (
    await db.query("select from pg_trigger where tgrelid = $1::regclass and tgname like '%embedd%'", [
      relation,
    ])
  ).rowCount;

describe("a partitioned table: rows that", () => {
  const provider = useWorker(db);

  it("arrive through the parent", async () => {
    await watchParts("through");
    await db.query(
      "insert into through (region, id, body) values ('eu', 1, 'Wien'), ('us', 1, 'Boston'), ('us', 150, 'Austin'), ('eu', 2, null)",
    );
    await expectVectors(db, "through", { eu1: "Wien", us1: "Boston", us150: "Austin", eu2: null }, { key });
    await db.query("update through set body = body || ', changed' where id = 1");
    const changed = { eu1: "Wien, changed", us1: "Boston, changed", us150: "Austin", eu2: null };
    await expectVectors(db, "through", changed, { key });
  });

  it("arrive in a partition directly, on each level", async () => {
    await watchParts("direct");
    await db.query("insert into direct_eu (region, id, body) values ('eu', 1, 'straight to eu')");
    await expectVectors(db, "direct", { eu1: "straight to eu" }, { key });
    await db.query("insert into direct_us (region, id, body) values ('us', 1, 'one level down')");
    await expectVectors(db, "direct", { eu1: "straight to eu", us1: "one level down" }, { key });
    await db.query("insert into direct_us_2 (region, id, body) values ('us', 100, 'two levels down')");
    const all = { eu1: "straight to eu", us1: "one level down", us100: "two levels down" };
    await expectVectors(db, "direct", all, { key });
    await db.query("update direct_us_2 set body = 'edited in its partition'");
    await expectVectors(db, "direct", { ...all, us100: "edited in its partition" }, { key });
  });

  it("are written by MERGE and ON CONFLICT DO UPDATE", async () => {
    await watchParts("upserts");
    const upsert = (values: string) =>
      db.query(`insert into upserts (region, id, body) values ${values}
        on conflict (region, id) do update set body = excluded.body`);
    await upsert("('eu', 1, 'first')");
    await expectVectors(db, "upserts", { eu1: "first" }, { key });
    await upsert("('eu', 1, 'second'), ('us', 120, 'new')");
    await expectVectors(db, "upserts", { eu1: "second", us120: "new" }, { key });
    await db.query(`merge into upserts t using (values ('eu', 1, 'merged'), ('us', 1, 'inserted')) s (region, id, body)
      on t.region = s.region and t.id = s.id when matched then update set body = s.body
      when not matched then insert (region, id, body) values (s.region, s.id, s.body)`);
    await expectVectors(db, "upserts", { eu1: "merged", us120: "new", us1: "inserted" }, { key });
  });

  it("are moved to another partition by an UPDATE: they keep their vector, or get a new one with a new text", async () => {
    await watchParts("moving");
    await db.query(
      "insert into moving (region, id, body) values ('eu', 1, 'moves as it is'), ('eu', 2, 'moves and changes')",
    );
    await expectVectors(db, "moving", { eu1: "moves as it is", eu2: "moves and changes" }, { key });
    await db.query("update moving set region = 'us' where id = 1");
    await db.query("update moving set region = 'us', id = 102, body = 'has changed' where id = 2");
    await expectVectors(db, "moving", { us1: "moves as it is", us102: "has changed" }, { key });
    expect((await db.query("select from only moving_us_2")).rowCount).toBe(1);
    expect(provider.texts.filter((text) => text === "moves as it is")).toHaveLength(1);
  });

  it("are moved while they are pending", async () => {
    await watchParts("moved");
    await db.query(`begin; insert into moved (region, id, body) values ('eu', 1, 'on the move');
      update moved set region = 'us'; commit`);
    await expectVectors(db, "moved", { us1: "on the move" }, { key });
  });

  it("arrive in a partition that is created or attached later", async () => {
    await watchParts("growing");
    await db.query("create table growing_asia partition of growing for values in ('asia')");
    await db.query("insert into growing (region, id, body) values ('asia', 1, 'in the new one')");
    await expectVectors(db, "growing", { asia1: "in the new one" }, { key });
    await db.query(`create table growing_rest (${columns}, primary key (region, id));
      alter table growing attach partition growing_rest default`);
    await db.query("insert into growing_rest (region, id, body) values ('oz', 1, 'in the attached one')");
    await expectVectors(db, "growing", { asia1: "in the new one", oz1: "in the attached one" }, { key });
    await db.query("update growing set body = 'edited there' where region = 'oz'");
    await expectVectors(db, "growing", { asia1: "in the new one", oz1: "edited there" }, { key });
    // The index of pending rows finds its rows like all others.
    const { rowCount } = await db.query(
      "select from pg_indexes where tablename = 'growing_rest' and indexdef like '%embedding IS NULL%'",
    );
    expect(rowCount).toBe(1);
  });

  it("stay in a detached partition: it is an ordinary table again, the other partitions are served", async () => {
    await watchParts("shrinking");
    await db.query("insert into shrinking (region, id, body) values ('eu', 1, 'leaves'), ('us', 1, 'stays')");
    await expectVectors(db, "shrinking", { eu1: "leaves", us1: "stays" }, { key });
    expect(await triggersOf("shrinking_eu")).toBe(6);
    await db.query("alter table shrinking detach partition shrinking_eu");
    expect(await triggersOf("shrinking_eu")).toBe(0);
    await db.query("insert into shrinking_eu (region, id, body) values ('eu', 2, 'nobody is asked')");
    await db.query("insert into shrinking (region, id, body) values ('us', 2, 'served as before')");
    await expectVectors(db, "shrinking", { us1: "stays", us2: "served as before" }, { key });
    await expectVectors(db, "shrinking_eu", { eu1: "leaves", eu2: null }, { key });
    // Attached again: its rows are found once a writer wakes the worker.
    await db.query("alter table shrinking attach partition shrinking_eu for values in ('eu')");
    await db.query("insert into shrinking (region, id, body) values ('eu', 3, 'wakes')");
    const all = {
      eu1: "leaves",
      eu2: "nobody is asked",
      eu3: "wakes",
      us1: "stays",
      us2: "served as before",
    };
    await expectVectors(db, "shrinking", all, { key });
  });

  it("need several claims, in every partition", async () => {
    await watchParts("plenty");
    await db.query(`insert into plenty (region, id, body) select r, i, r || ' ' || i
      from unnest('{eu,us}'::text[]) r, generate_series(0, 199) i`);
    const rows = ["eu", "us"].flatMap((r) =>
      Array.from({ length: 200 }, (_, i) => [`${r}${i}`, `${r} ${i}`]),
    );
    await expectVectors(db, "plenty", Object.fromEntries(rows) as Record<string, string>, { key });
  });
});

describeServer("a partition that is attached with rows in it", () => {
  it("fires no trigger, and the poll finds them", async () => {
    await startTestWorker(db, hashProvider(), { pollIntervalMs: 1_000 });
    await watchParts("attached");
    await db.query(`create table attached_full (${columns}, primary key (region, id));
      insert into attached_full (region, id, body) values ('asia', 1, 'was there before');
      alter table attached attach partition attached_full for values in ('asia')`);
    await expectVectors(db, "attached", { asia1: "was there before" }, { key });
  });
});

describeServer("several workers on a partitioned table", () => {
  it("embed each row once", async () => {
    const providers = [hashProvider(), hashProvider()];
    for (const provider of providers) await startTestWorker(db, provider);
    await watchParts("shared");
    await db.query(
      `insert into shared (region, id, body) select 'us', i, 'shared ' || i from generate_series(0, 199) i`,
    );
    const rows = Array.from({ length: 200 }, (_, i) => [`us${i}`, `shared ${i}`]);
    await expectVectors(db, "shared", Object.fromEntries(rows) as Record<string, string>, { key });
    expect(providers.flatMap(({ texts }) => texts)).toHaveLength(200);
  });
});
