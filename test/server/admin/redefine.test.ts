import pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { watch } from "#embedd/index.js";
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
    `select regexp_replace(x.relname, '\\d+', 'N') as name, s.spcname as space, obj_description(x.oid, 'pg_class') as comment
     from pg_index i
     join pg_class x on x.oid = i.indexrelid
     left join pg_tablespace s on s.oid = x.reltablespace
     where i.indrelid = $1::regclass and x.relname like 'embedd%'
     order by 1`,
    [relation],
  );
  return rows;
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
});
