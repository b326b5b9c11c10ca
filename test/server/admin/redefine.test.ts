import pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { watch } from "#embedd/index.js";
import { spawnCli } from "../../helpers/cli.js";
import { describeServer, useDatabase } from "../../helpers/database.js";

const db = useDatabase();
const SPACE = `embedd_space_${Math.random().toString(36).slice(2, 10)}`;

interface Index {
  name: string;
  space: string | null;
  comment: string | null;
}

/** embedd's indexes on a table. */
async function indexesOf(relation: string): Promise<Index[]> {
  const { rows } = await db.query<Index>(
    `select regexp_replace(x.relname, '\\d+', 'N', 'g') as name, s.spcname as space, obj_description(x.oid, 'pg_class') as comment
     from pg_index i
     join pg_class x on x.oid = i.indexrelid
     left join pg_tablespace s on s.oid = x.reltablespace
     where i.indrelid = $1::regclass and x.relname like 'embedd%'
     order by 1`,
    [relation],
  );
  return rows;
}

/** What a build that was cut off leaves. */
const invalidate = (relation: string) =>
  db.query(
    `update pg_index set indisvalid = false
     where indrelid = $1::regclass and indexrelid::regclass::text like '%pending%'`,
    [relation],
  );

async function repair(relation: string): Promise<void> {
  const env = { DATABASE_URL: db.url };
  expect(await spawnCli(["repair", relation], { env }).exited).toMatchObject({ code: 0 });
}

async function watchSpaced(relation: string): Promise<void> {
  await db.query(
    `create table ${relation} (id int primary key, title text, body text, embedding vector(2), embedding_model text);
     select embedd.watch('${relation}', '{body}', index_method => 'hnsw')`,
  );
  const { rows } = await db.query<{ id: number }>(
    "select id from embedd.pipelines where relation = $1::regclass",
    [relation],
  );
  const id = rows[0]?.id ?? 0;
  await db.query(
    `create index embedd_${id}_vector on ${relation} using hnsw (embedding vector_cosine_ops) tablespace ${SPACE};
     alter index embedd_${id}_pending set tablespace ${SPACE};
     comment on index embedd_${id}_pending is 'pending';
     comment on index embedd_${id}_vector is 'vector'`,
  );
}

describeServer("other content columns keep the indexes' tablespaces and comments", () => {
  beforeAll(async () => {
    const client = new pg.Client(db.url);
    await client.connect();
    try {
      await client.query("set allow_in_place_tablespaces = on");
      await client.query(`create tablespace ${SPACE} location ''`);
    } finally {
      await client.end();
    }
  });
  afterAll(async () => {
    await db.query(`drop tablespace ${SPACE}`);
  });

  it.each<[string, (relation: string) => Promise<unknown>]>([
    [
      "in SQL",
      (relation) => db.query(`select embedd.watch('${relation}', '{title,body}', existing => 'keep')`),
    ],
    [
      "by the command",
      (relation) => watch(db.url, { table: relation, content: ["title", "body"], existing: "keep" }),
    ],
  ])("%s", async (how, change) => {
    const relation = how.replaceAll(" ", "_");
    await watchSpaced(relation);
    await change(relation);
    expect(await indexesOf(relation)).toEqual([
      { name: "embedd_N_pending", space: SPACE, comment: "pending" },
      { name: "embedd_N_vector", space: SPACE, comment: "vector" },
    ]);
    expect((await db.query("show default_tablespace")).rows).toEqual([{ default_tablespace: "" }]);
    await db.query(`drop table ${relation}; select embedd.unwatch('${relation}')`);
  });

  it.each<[string, (relation: string) => Promise<unknown>]>([
    [
      "gone in SQL",
      (relation) => db.query(`select embedd.watch('${relation}', '{title}', existing => 'keep')`),
    ],
    [
      "gone by the command",
      (relation) => watch(db.url, { table: relation, content: ["title"], existing: "keep" }),
    ],
  ])("of the vector index, also after a content column was dropped: %s", async (how, change) => {
    const relation = how.replaceAll(" ", "_");
    await watchSpaced(relation);
    await db.query(`alter table ${relation} drop column body cascade`);
    await change(relation);
    expect(await indexesOf(relation)).toMatchObject([
      { name: "embedd_N_pending" },
      { name: "embedd_N_vector", space: SPACE, comment: "vector" },
    ]);
    await db.query(
      `insert into ${relation} (id, title, embedding, embedding_model) values (1, 'one', '[1,1]', 'm');
       update ${relation} set title = 'two'`,
    );
    expect((await db.query(`select from ${relation} where embedding is null`)).rowCount).toBe(1);
    await db.query(`drop table ${relation}; select embedd.unwatch('${relation}')`);
  });

  it("so does the repair of an index that was left invalid", async () => {
    await watchSpaced("invalid");
    await invalidate("invalid");
    await repair("invalid");
    expect(await indexesOf("invalid")).toEqual([
      { name: "embedd_N_pending", space: SPACE, comment: "pending" },
      { name: "embedd_N_vector", space: SPACE, comment: "vector" },
    ]);
    await db.query(`drop table invalid; select embedd.unwatch('invalid')`);
  });

  it("so does the repair of a partition's part that was left invalid", async () => {
    await db.query(`
      create table parts (id int primary key, body text, embedding vector(2), embedding_model text) partition by range (id);
      create table parts_low partition of parts for values from (0) to (10);
      select embedd.watch('parts', '{body}', create_index => false);
      do $$ declare p embedd.pipelines; name text;
      begin
        select * into p from embedd.pipelines where relation = 'parts'::regclass;
        name := format('embedd_%s_pending_%s', p.id, 'parts_low'::regclass::oid);
        execute format('create index %I on parts_low %s', name, embedd.pending_index_definition(p));
        execute format('comment on index %I is ''part''; alter index %1$I set tablespace ${SPACE}', name);
      end $$`);
    await invalidate("parts_low");
    await repair("parts");
    expect(await indexesOf("parts_low")).toEqual([
      { name: "embedd_N_pending_N", space: SPACE, comment: "part" },
    ]);
    await db.query("drop table parts; select embedd.unwatch('parts')");
  });
});
