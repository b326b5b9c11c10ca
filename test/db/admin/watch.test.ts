import { beforeAll, describe, expect, it } from "vitest";
import { unwatch, watch } from "#embedd/admin/watch.js";
import type { WatchOptions } from "#embedd/admin/watch.js";
import { itServer, useDatabase } from "../../helpers/database.js";

const db = useDatabase();

async function tryWatch(options: Partial<WatchOptions> & { relation: string }): Promise<unknown> {
  const client = await db.pool.connect();
  try {
    return await watch(client, { content: ["body"], embedding: "embedding", ...options });
  } catch (error) {
    return error;
  } finally {
    client.release();
  }
}

describe("watch refuses, with a hint:", () => {
  beforeAll(async () => {
    await db.query(
      `
      create table docs (id bigint primary key, body text, embedding vector(3), embedding_model text);
      create table "Mixed Case" (id int primary key, body text, embedding vector(3), embedding_model text);
      create table no_key (body text, embedding vector(3), embedding_model text);
      create view docs_view as select * from docs;
      create materialized view docs_matview as select * from docs;
      create extension if not exists postgres_fdw;
      create server elsewhere foreign data wrapper postgres_fdw;
      create foreign table docs_foreign (id bigint, body text, embedding vector(3), embedding_model text) server elsewhere;
      create table no_dimension (id bigint primary key, body text, embedding vector, embedding_model text);
      create table other_type (id bigint primary key, body text, embedding real[], embedding_model text);
      create table not_null (id bigint primary key, body text, embedding vector(3) not null, embedding_model text);
      create table no_model (id bigint primary key, body text, embedding vector(3));
      create table number_model (id bigint primary key, body text, embedding vector(3), embedding_model int);
      create table parent (id bigint primary key, body text, embedding vector(3), embedding_model text);
      create table child (primary key (id)) inherits (parent);
      create table parted (id bigint primary key, body text, embedding vector(3), embedding_model text) partition by range (id);
      create table parted_1 partition of parted for values from (0) to (100);
    `.replace(db.kind === "embedded" ? /\s+create (extension|server|foreign)[^;]*;/g : /^$/, ""),
    );
  });

  it.each<[string, Partial<WatchOptions> & { relation: string }, string, RegExp, RegExp]>([
    ["a missing table", { relation: "dox" }, "no_such_table", /no table dox/, /schema\.table/],
    [
      "a name in the wrong case",
      { relation: "mixed case" },
      "no_such_table",
      /mixed case; did you mean "Mixed Case"\?/,
      /schema\.table/,
    ],
    [
      "a table without a primary key",
      { relation: "no_key" },
      "no_primary_key",
      /no_key has no primary key/,
      /ADD PRIMARY KEY/,
    ],
    ["a view", { relation: "docs_view" }, "not_a_table", /docs_view is a view/, /watch the table/],
    [
      "a materialized view",
      { relation: "docs_matview" },
      "not_a_table",
      /is a materialized view/,
      /watch the table/,
    ],
    [
      "a system table",
      { relation: "pg_class" },
      "system_table",
      /pg_class belongs to the system/,
      /your own tables/,
    ],
    [
      "a table of embedd's own",
      { relation: "embedd.leases" },
      "system_table",
      /leases belongs to the system/,
      /your own tables/,
    ],
    [
      "an unknown content column",
      { relation: "docs", content: ["boddy"] },
      "no_such_column",
      /no column boddy/,
      /id, body/,
    ],
    ["no content column", { relation: "docs", content: [] }, "no_content", /at least one/, /--content/],
    [
      "a repeated content column",
      { relation: "docs", content: ["body", "body"] },
      "content_column",
      /twice/,
      /once/,
    ],
    [
      "the embedding column as content",
      { relation: "docs", content: ["embedding"] },
      "content_column",
      /embedding of docs/,
      /text/,
    ],
    [
      "an unknown embedding column",
      { relation: "docs", embedding: "vec" },
      "no_such_column",
      /no column vec/,
      /ADD COLUMN vec vector/,
    ],
    [
      "an embedding column of another type",
      { relation: "other_type" },
      "embedding_type",
      /type real\[\], not vector/,
      /ADD COLUMN/,
    ],
    [
      "an embedding column without a dimension",
      { relation: "no_dimension" },
      "no_dimension",
      /no fixed dimension/,
      /TYPE vector\(384\)/,
    ],
    [
      "an embedding column that is NOT NULL",
      { relation: "not_null" },
      "not_null",
      /NOT NULL/,
      /DROP NOT NULL/,
    ],
    [
      "no model column",
      { relation: "no_model" },
      "no_such_column",
      /no column embedding_model/,
      /ADD COLUMN embedding_model text/,
    ],
    [
      "a model column of another type",
      { relation: "number_model" },
      "model_column",
      /embedding_model of number_model/,
      /text/,
    ],
    ["a parent of inheritance", { relation: "parent" }, "inheritance", /parent takes part/, /partitioning/],
    ["a child of inheritance", { relation: "child" }, "inheritance", /child takes part/, /NO INHERIT/],
    ["a partition", { relation: "parted_1" }, "partition", /parted_1 is a partition/, /watch parted/],
  ])("%s", async (_, options, code, message, hint) => {
    const before = await triggersAndIndexes();
    expect(await tryWatch(options)).toMatchObject({
      kind: "configuration",
      code,
      message: expect.stringMatching(message) as string,
      hint: expect.stringMatching(hint) as string,
    });
    expect(await triggersAndIndexes()).toEqual(before);
  });

  it("a temporary table", async () => {
    const client = await db.pool.connect();
    try {
      await client.query(
        "create temporary table mine (id int primary key, body text, embedding vector(3), embedding_model text)",
      );
      await expect(
        watch(client, { relation: "mine", content: ["body"], embedding: "embedding" }),
      ).rejects.toMatchObject({
        code: "temporary_table",
      });
    } finally {
      client.release(true);
    }
  });

  itServer("a foreign table", async () => {
    expect(await tryWatch({ relation: "docs_foreign" })).toMatchObject({
      code: "not_a_table",
      message: expect.stringMatching(/is a foreign table/) as string,
    });
  });

  it("a column that is watched already", async () => {
    expect(await tryWatch({ relation: "docs" })).toEqual(expect.any(Number));
    expect(await tryWatch({ relation: "docs" })).toMatchObject({
      code: "already_watched",
      hint: expect.stringMatching(/unwatch/) as string,
    });
  });
});

describe("unwatch", () => {
  it("restores the table and keeps its vectors", async () => {
    await db.query(`
      create table letters (id int primary key, body text, embedding vector(3), embedding_model text);
      insert into letters values (1, 'a', '[1,0,0]', 'm')`);
    const before = await triggersAndIndexes();
    expect(await tryWatch({ relation: "letters" })).toMatchObject({ code: "existing_vectors" });
    expect(await triggersAndIndexes()).toEqual(before);
    expect(await tryWatch({ relation: "letters", existing: "keep" })).toEqual(expect.any(Number));
    expect(await triggersAndIndexes()).not.toEqual(before);
    const client = await db.pool.connect();
    try {
      expect(await unwatch(client, "letters")).toBe(1);
      await expect(unwatch(client, "letters")).rejects.toMatchObject({ code: "not_watched" });
    } finally {
      client.release();
    }
    expect(await triggersAndIndexes()).toEqual(before);
    expect((await db.query("select embedding::text, embedding_model from letters")).rows).toEqual([
      { embedding: "[1,0,0]", embedding_model: "m" },
    ]);
  });
});

async function triggersAndIndexes(): Promise<unknown[]> {
  const { rows } = await db.query<Record<string, unknown>>(`
    select tgrelid::regclass::text as relation, tgname::text as name from pg_trigger where not tgisinternal
    union all select indrelid::regclass::text, indexrelid::regclass::text from pg_index
      where indrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace)
    union all select 'function', proname from pg_proc where pronamespace = 'embedd'::regnamespace
    union all select 'pipeline', id::text from embedd.pipelines order by 1, 2`);
  return rows;
}
