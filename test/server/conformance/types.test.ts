import { beforeAll, describe, expect, it } from "vitest";
import { useWorker } from "../../helpers/file-worker.js";
import { useDatabase } from "../../helpers/database.js";
import { expectVectors, watchTable } from "../../helpers/watched-table.js";

const db = useDatabase();
const vectorColumns = "embedding vector(384), embedding_model text";

describe("content", () => {
  useWorker(db);

  beforeAll(async () => {
    await db.query("create type mood as enum ('happy', 'sad')");
    await db.query(
      "create collation caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    );
    if (db.kind === "server") await db.query("create extension citext");
  });

  // For each type: two values, and one that the type considers equal to the second, where there is one.
  it.for<[string, string[]]>([
    ["text", ["plain", "B", "b"]],
    ["varchar(40)", ["of bounded length", "B", "b"]],
    ["varchar", ["of any length", "B", "b"]],
    ["char(8)", ["padded", "B", "b"]],
    ["text collate caseless", ["As Written", "Same But For Case", "same but for case"]],
    ["citext", ["As Written", "Same But For Case", "same but for case"]],
    ["json", ['{"b": 1,  "a": [true, null]}', '{"a":1}', '{"a": 1}']],
    ["jsonb", ['{"b": 1, "a": [true, null]}', '{"a": 1.0}', '{"a": 1.00}']],
    ["xml", ["<p>one</p>", "<p>two</p>", "<p >two</p>"]],
    ["numeric", ["12.5", "1.0", "1.00"]],
    ["text[]", ["{one,two}", '{a,"b, c"}', '{a,"b, d"}']],
    ["mood", ["happy", "sad", "happy"]],
    ["boolean", ["true", "false", "true"]],
  ])(
    "of type %s is embedded in its text form, and re-embedded when that changes",
    async ([type, values], { skip }) => {
      // Embedded PostgreSQL has no extension but vector.
      skip(db.kind === "embedded" && type === "citext");
      const relation = `content_${type.replace(/\W/g, "_")}`;
      const ddl = `create table ${relation} (id int primary key, body ${type}, ${vectorColumns})`;
      await watchTable(db, { relation, ddl });
      const [first = "", second = "", third = ""] = values;
      const textForm = async (): Promise<Record<string, string | null>> => {
        const { rows } = await db.query<{ id: number; body: string | null }>(
          `select id, body::text from ${relation}`,
        );
        return Object.fromEntries(rows.map(({ id, body }) => [String(id), body]));
      };
      await db.query(`insert into ${relation} (id, body) values (1, $1), (2, $2), (3, null)`, [
        first,
        second,
      ]);
      const inserted = await textForm();
      expect(inserted[3]).toBeNull();
      await expectVectors(db, relation, inserted);
      await db.query(`update ${relation} set body = $1 where id = 2`, [third]);
      const updated = await textForm();
      expect(updated[2]).not.toBe(inserted[2]);
      await expectVectors(db, relation, updated);
    },
  );

  it("of several columns is joined line by line, without NULL and blank columns", async () => {
    const ddl = `create table several (id int primary key, title text, body varchar(80), meta jsonb, ${vectorColumns})`;
    await watchTable(db, { relation: "several", ddl, content: ["title", "body", "meta"] });
    await db.query(`insert into several values (1, 'T', 'b', '{"k": 1}'), (2, null, 'b', null), (3, 'T', ' ', null),
      (4, null, null, null), (5, ' ', '', null), (6, null, null, '[]')`);
    const texts = { 1: 'T\nb\n{"k": 1}', 2: "b", 3: "T", 4: null, 5: null, 6: "[]" };
    await expectVectors(db, "several", texts);
    await db.query("update several set meta = null where id = 1");
    await db.query("update several set title = 'late' where id = 4");
    await expectVectors(db, "several", { ...texts, 1: "T\nb", 4: "late" });
  });

  it("with a template, omits the parts of columns that are NULL", async () => {
    await watchTable(db, {
      relation: "templated",
      ddl: `create table templated (id int primary key, title text, author text, body text, ${vectorColumns})`,
      content: ["title", "author", "body"],
      template: "# {title} (by {author})\\n\\n{body} {{end}}",
    });
    await db.query(`insert into templated values (1, 'T', 'A', 'b'), (2, null, 'A', 'b'), (3, 'T', null, 'b'),
      (4, null, null, 'b'), (5, 'T', null, null), (6, null, null, null)`);
    const texts = {
      1: "# T (by A)\n\nb {end}",
      2: "(by A)\n\nb {end}",
      3: "# T)\n\nb {end}",
      4: ")\n\nb {end}",
      5: "# T {end}",
      6: null,
    };
    await expectVectors(db, "templated", texts);
    await db.query("update templated set author = 'B' where id = 1");
    await expectVectors(db, "templated", { ...texts, 1: "# T (by B)\n\nb {end}" });
  });

  it("with a template without literals puts the title above the body", async () => {
    await watchTable(db, {
      relation: "titled",
      ddl: `create table titled (id int primary key, title text, body text, ${vectorColumns})`,
      content: ["title", "body"],
      template: "{title}\\n\\n{body}",
    });
    await db.query(
      "insert into titled values (1, 'T', 'b'), (2, null, 'b'), (3, 'T', null), (4, E'\\n', E'\\t')",
    );
    await expectVectors(db, "titled", { 1: "T\n\nb", 2: "b", 3: "T", 4: null });
  });
});
