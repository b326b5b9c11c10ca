import pg from "pg";
import { describe, expect, it } from "vitest";
import { useWorker } from "../../helpers/file-worker.js";
import { useDatabase } from "../../helpers/database.js";
import { expectVectors, watchTable } from "../../helpers/watched-table.js";

const db = useDatabase();

interface Names {
  schema: string;
  table: string;
  /** The two key columns, the two content columns. */
  columns: [string, string, string, string];
  embedding: string;
  modelColumn: string;
}

/** 63 bytes, the most that PostgreSQL keeps of a name. */
const long = (letter: string): string => letter.repeat(Math.floor(63 / Buffer.byteLength(letter)));

const names: [string, Names][] = [
  [
    "in mixed case",
    {
      schema: "App",
      table: "MyDocs",
      columns: ["tenantId", "Id", "Title", "bodyText"],
      embedding: "bodyVector",
      modelColumn: "bodyVectorModel",
    },
  ],
  [
    "with spaces, quotes, dots, percent signs, backslashes and dollars",
    {
      schema: 'my "own". schema',
      table: "it's 100%I $1 {table}; --",
      columns: ["a.b", '"id"', "C:\\dir\\n", "50 %s $2 $body$"],
      embedding: "the 'vector'",
      modelColumn: 'model of "it"',
    },
  ],
  [
    "that are not ASCII",
    {
      schema: "schéma",
      table: "文書🚀",
      columns: ["mandant", "ключ", "título", "本文"],
      embedding: "вектор",
      modelColumn: "modèle",
    },
  ],
  [
    "of 63 bytes",
    {
      schema: long("s"),
      table: long("ü"),
      columns: [long("k"), long("i"), long("t"), long("文")],
      embedding: long("e"),
      modelColumn: long("m"),
    },
  ],
  [
    "that are reserved words, or embedd's own in its statements",
    {
      schema: "select",
      table: "table",
      columns: ["order", "key", "t", "hash"],
      embedding: "l",
      modelColumn: "u",
    },
  ],
  [
    "that embedd's statements give to others",
    {
      schema: "locked",
      table: "picked",
      columns: ["k2", "k1", "c2", "c1"],
      embedding: "key_text",
      modelColumn: "fresh",
    },
  ],
];

describe("names", () => {
  useWorker(db);

  async function createNamed(name: Names, partitioned = false) {
    const quote = (text: string) => pg.escapeIdentifier(text);
    const relation = `${quote(name.schema)}.${quote(name.table)}`;
    const [a, b, c, d] = name.columns.map(quote);
    const { embedding, modelColumn } = name;
    await db.query(`create schema if not exists ${quote(name.schema)}`);
    await watchTable(db, {
      relation,
      ddl: `create table ${relation} (${a ?? ""} text, ${b ?? ""} int, ${c ?? ""} text, ${d ?? ""} text,
          ${quote(embedding)} vector(384), ${quote(modelColumn)} text, primary key (${a ?? ""}, ${b ?? ""}))
          ${
            partitioned
              ? `partition by range (${b ?? ""});
            create table ${quote(name.schema)}.${quote(`${name.table.slice(1)}p`)} partition of ${relation} default`
              : ""
          }`,
      content: [name.columns[2], name.columns[3]],
      embedding,
      modelColumn,
    });
    return {
      relation,
      key: `${a ?? ""} || ${b ?? ""}`,
      options: { embedding, modelColumn },
      c: c ?? "",
      d: d ?? "",
    };
  }

  it.each(names)("%s", async (_, name) => {
    const { relation, key, options, c, d } = await createNamed(name);
    await db.query(
      `insert into ${relation} values ('x', 1, 'title', 'body'), ('x', 2, null, 'body only'), ('y', 1, null, null)`,
    );
    await expectVectors(db, relation, { x1: "title\nbody", x2: "body only", y1: null }, { key, ...options });
    await db.query(`update ${relation} set ${d} = 'changed' where ${c} = 'title'`);
    await expectVectors(
      db,
      relation,
      { x1: "title\nchanged", x2: "body only", y1: null },
      { key, ...options },
    );
    await db.query(`select embedd.unwatch($1)`, [relation]);
    const left = await db.query("select from pg_trigger where tgrelid = $1::regclass", [relation]);
    expect(left.rowCount).toBe(0);
  });

  it.each(names)("%s, of a partitioned table", async (_, name) => {
    const { relation, key, options, d } = await createNamed(
      { ...name, schema: `${name.schema.slice(1)}p` },
      true,
    );
    await db.query(`insert into ${relation} values ('x', 1, 'title', 'body')`);
    await expectVectors(db, relation, { x1: "title\nbody" }, { key, ...options });
    await db.query(`update ${relation} set ${d} = 'changed'`);
    await expectVectors(db, relation, { x1: "title\nchanged" }, { key, ...options });
  });

  it("of two tables that differ only in case", async () => {
    await watchTable(db, { relation: "twins" });
    await watchTable(db, { relation: '"Twins"' });
    await db.query("insert into twins (id, body) values (1, 'the small one')");
    await db.query(`insert into "Twins" (id, body) values (1, 'the capital one')`);
    await expectVectors(db, "twins", { 1: "the small one" });
    await expectVectors(db, '"Twins"', { 1: "the capital one" });
  });

  it("in a template, with braces around any column name", async () => {
    await watchTable(db, {
      relation: "braced",
      ddl: `create table braced (id int primary key, "Título 1" text, "b.c" text, embedding vector(384), embedding_model text)`,
      content: ["Título 1", "b.c"],
      template: "{Título 1}: {b.c}",
    });
    await db.query("insert into braced (id, \"Título 1\", \"b.c\") values (1, 'T', 'b')");
    await expectVectors(db, "braced", { 1: "T: b" });
  });
});
