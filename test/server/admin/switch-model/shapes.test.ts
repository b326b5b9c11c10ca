import { randomBytes } from "node:crypto";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { withOwnerClient } from "#embedd/database/pool.js";
import { grantWorker, revokeWorker } from "#embedd/admin/roles.sql.js";
import { switchModel } from "#embedd/admin/switch-model/switch-model.js";
import { translateIndex } from "#embedd/admin/switch-model/translate-index.js";
import { watch } from "#embedd/admin/watch.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { expectModel, namedProvider } from "../../../helpers/switch-model.js";
import { createRole } from "../../../helpers/watched-table.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();
const run = promisify(execFile);
/** Tablespaces belong to the whole server. */
const SPACE = `embedd_test_space_${randomBytes(4).toString("hex")}`;

interface Shape {
  relation: string;
  ddl: string;
  rows: string;
  /** After the vectors are there. */
  indexes: string;
  /** Unquoted. */
  embedding?: string;
  modelColumn?: string;
  quoted?: { embedding: string; modelColumn: string };
  index?: "hnsw";
}

const columns = "body text, embedding vector(16), embedding_model text";
const shapes: Record<string, Shape> = {
  "indexes with options, predicates and expressions, grants, comments and settings": {
    relation: "plain",
    ddl: `create table plain (id int primary key, ${columns});
      comment on column plain.embedding is 'the ''vector''';
      alter table plain alter embedding set statistics 17, alter embedding set storage extended;
      grant select (id, body, embedding), update (embedding_model) on plain to reader with grant option;
      grant select (embedding) on plain to public`,
    rows: "insert into plain select i, 'text ' || i from generate_series(1, 60) i",
    indexes: `create index own on plain using hnsw (embedding vector_ip_ops) with (m = 8, ef_construction = 32) where body <> 'embedding';
      create index of_model on plain using hnsw (embedding vector_cosine_ops) where embedding_model = 'old';
      create index halves on plain using hnsw ((embedding::halfvec(16)) halfvec_l2_ops) where id > 5;
      create index bits on plain using hnsw ((binary_quantize(embedding)::bit(16)) bit_hamming_ops);
      create index lists on plain using ivfflat (embedding vector_cosine_ops) with (lists = 3);
      create index models on plain (embedding_model, id)`,
    index: "hnsw",
  },
  "defaults, and indexes with comments and a tablespace": {
    relation: "kept",
    ddl: `create table kept (id int primary key, body text, embedding vector(16), embedding_model text default 'none');
      alter table kept alter embedding set default null::vector`,
    rows: "insert into kept select i, 'text ' || i, null, null from generate_series(1, 60) i",
    indexes: `create index spaced on kept using hnsw (embedding vector_cosine_ops) tablespace ${SPACE} where id > 3;
      comment on index spaced is 'the ''index''';
      do $$ declare i regclass; begin
        for i in select indexrelid from pg_index join pg_class c on c.oid = indexrelid
          where indrelid = 'kept'::regclass and relname like 'embedd%' loop
          execute format('comment on index %s is %L', i, 'of embedd');
          execute format('alter index %s set tablespace ${SPACE}', i);
        end loop;
      end $$`,
    index: "hnsw",
  },
  "a key of three columns and names that need quotes": {
    relation: `"Some Docs"`,
    ddl: `create table "Some Docs" ("A" int, b text, "c c" date, body text, "Emb""edding" vector(16), "the model's" text, primary key ("A", b, "c c"))`,
    rows: `insert into "Some Docs" select i, 'b,"' || i, date '2024-01-01' + i, 'text ' || i from generate_series(1, 60) i`,
    indexes: `create index "Own Index" on "Some Docs" using hnsw ("Emb""edding" vector_cosine_ops)`,
    embedding: `Emb"edding`,
    modelColumn: "the model's",
    quoted: { embedding: `"Emb""edding"`, modelColumn: `"the model's"` },
  },
  "halfvec, and names of 63 bytes": {
    relation: "half",
    ddl: `create table half (id int primary key, body text, ${"é".repeat(31)} halfvec(16), ${"m".repeat(63)} text)`,
    rows: "insert into half select i, 'text ' || i from generate_series(1, 60) i",
    indexes: `create index ${"i".repeat(63)} on half using hnsw (${"é".repeat(31)} halfvec_l2_ops)`,
    embedding: "é".repeat(31),
    modelColumn: "m".repeat(63),
    quoted: { embedding: "é".repeat(31), modelColumn: "m".repeat(63) },
  },
  "partitions, with an index of all and one of one": {
    relation: "parted",
    ddl: `create table parted (id int primary key, ${columns}) partition by range (id);
      create table parted_1 partition of parted for values from (0) to (30);
      create table parted_2 partition of parted for values from (30) to (1000) partition by range (id);
      create table parted_2_1 partition of parted_2 for values from (30) to (1000)`,
    rows: "insert into parted select i, 'text ' || i from generate_series(1, 60) i",
    indexes: `create index of_all on parted using hnsw (embedding vector_cosine_ops) with (m = 8);
      create index of_one on parted_1 using hnsw (embedding vector_l2_ops)`,
    index: "hnsw",
  },
};

/** The schema's lines, sorted, without the order of columns, embedd's own numbers and the model's name. */
async function schemaLines(model: string, dimensions: number): Promise<string[]> {
  const { stdout } = await run("pg_dump", ["--schema-only", "--exclude-schema=embedd", db.url]);
  return stdout
    .replace(/^\\(un)?restrict .*$/gm, "")
    .replace(/^-- .*$/gm, "")
    .replaceAll(`(${dimensions})`, "(n)")
    .replaceAll(`'${model}'`, "'model'")
    .replace(/embedd_\d+_/g, "embedd_N_")
    .replace(/pipeline_\d+_/g, "pipeline_N_")
    .replace(/after_write\('\d+'\)/g, "after_write('N')")
    .split("\n")
    .map((line) => line.replace(/,$/, ""))
    .sort();
}

describeServer("switch-model of a table with", () => {
  beforeAll(async () => {
    const client = await db.pool.connect();
    await client.query("set allow_in_place_tablespaces = on");
    await client.query(`create tablespace ${SPACE} location ''`);
    client.release(true);
  });

  afterAll(async () => {
    await db.query("drop table if exists kept");
    await db.query(`drop tablespace ${SPACE}`);
  });

  it.each(Object.entries(shapes))("%s", async (_, shape) => {
    const { role } = await createRole(db);
    const { relation, embedding = "embedding", modelColumn = "embedding_model", quoted } = shape;
    await db.query(shape.ddl.replaceAll("reader", role));
    await db.query(shape.rows);
    await withOwnerClient(db.url, (client) =>
      watch(client, { relation, content: ["body"], embedding, modelColumn, index: shape.index }),
    );
    const old = await startTestWorker(db, namedProvider("old", 16));
    await expectModel(db, relation, "old", 16, quoted);
    await old.idle();
    await db.query(shape.indexes);
    const before = await schemaLines("old", 16);

    const switched = withOwnerClient(db.url, (client) =>
      switchModel(client, { relation, embedding, model: "new", dimensions: 8, pollMs: 20, dropOld: true }),
    );
    const next = await startTestWorker(db, namedProvider("new", 8));
    await switched;
    await expectModel(db, relation, "new", 8, quoted);
    expect(await schemaLines("new", 8)).toEqual(before);
    await db.query(`update ${relation} set body = body || ' edited'`);
    await expectModel(db, relation, "new", 8, quoted);
    await Promise.all([old.stop(), next.stop()]);
    await db.query(
      `drop table ${relation}; delete from embedd.pipelines where relation not in (select oid from pg_class)`,
    );
  });

  it("a worker that owns nothing, which gets its new privileges and loses the old ones", async () => {
    const { role, url } = await createRole(db);
    await db.query(
      `create table granted (id int primary key, ${columns}); insert into granted select i, 'text ' || i from generate_series(1, 60) i`,
    );
    await withOwnerClient(db.url, async (client) => {
      await watch(client, { relation: "granted", content: ["body"], embedding: "embedding" });
      await grantWorker(client, role);
    });
    const old = await startTestWorker(db, namedProvider("old", 16), { databaseUrl: url });
    await expectModel(db, "granted", "old", 16);
    const switched = withOwnerClient(db.url, (client) =>
      switchModel(client, {
        relation: "granted",
        embedding: "embedding",
        model: "new",
        dimensions: 8,
        pollMs: 20,
      }),
    );
    const next = await startTestWorker(db, namedProvider("new", 8), { databaseUrl: url });
    await switched;
    await db.query("update granted set body = body || ' edited'");
    await expectModel(db, "granted", "new", 8);
    const { rows } = await db.query(
      `select attname as name, privilege_type as privilege from pg_attribute, aclexplode(attacl) where attrelid = 'granted'::regclass and grantee = $1::regrole order by 1, 2`,
      [role],
    );
    expect(rows).toEqual([
      { name: "body", privilege: "SELECT" },
      { name: "ctid", privilege: "SELECT" },
      { name: "embedding", privilege: "SELECT" },
      { name: "embedding", privilege: "UPDATE" },
      { name: "embedding_model", privilege: "SELECT" },
      { name: "embedding_model", privilege: "UPDATE" },
      { name: "id", privilege: "SELECT" },
      { name: "xmin", privilege: "SELECT" },
    ]);
    await Promise.all([old.stop(), next.stop()]);
    await withOwnerClient(db.url, (client) => revokeWorker(client, role));
    expect(
      (
        await db.query(
          "select from pg_attribute, aclexplode(attacl) where attrelid = 'granted'::regclass and grantee = $1::regrole",
          [role],
        )
      ).rowCount,
    ).toBe(0);
  });
});

it("an index definition is translated, but of its strings only the model's name", () => {
  const names = new Map([
    ["embedding", "embedding_next"],
    [`"a ""b"""`, `"a ""b""_next"`],
    ["'it''s old'", "'new'"],
  ]);
  expect(
    translateIndex(
      `USING hnsw (((embedding)::halfvec(16)) halfvec_l2_ops) WHERE (("a ""b""" = 'embedding ''(16)'::text) AND (embedding_x > 16) AND (embedding_model = 'it''s old'::text))`,
      names,
      16,
      8,
    ),
  ).toBe(
    `USING hnsw (((embedding_next)::halfvec(8)) halfvec_l2_ops) WHERE (("a ""b""_next" = 'embedding ''(16)'::text) AND (embedding_x > 16) AND (embedding_model = 'new'::text))`,
  );
});
