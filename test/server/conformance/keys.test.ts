import { beforeAll, describe, it, onTestFinished } from "vitest";
import { useWorker } from "../../helpers/file-worker.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { expectVectors, watchTable } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();
const vectorColumns = "embedding vector(384), embedding_model text";

/** By type, values that are hard to carry as text or in arrays. */
const types: [string, string[]][] = [
  ["smallint", ["-32768", "32767"]],
  ["integer", ["-2147483648", "2147483647"]],
  ["bigint", ["-9223372036854775808", "9223372036854775807"]],
  ["numeric", ["1.50", "-0.000000000000000000000000001", "123456789012345678901234567890", "NaN"]],
  ["numeric(10,2)", ["1.5", "-99999999.99"]],
  ["uuid", ["00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]],
  ["text", ["", " ", "NULL", 'a"b', "a'b", "a,b", "{a}", "(a)", "a\\b", "\n\t", "機械 🚀"]],
  ["varchar(20)", ["", "a,b", 'say "x"', "žluťoučký"]],
  ["date", ["2024-02-29", "0044-03-15 BC", "infinity", "9999-12-31"]],
  ["timestamptz", ["2024-10-27 02:30:00.123456+02", "2024-10-27 02:30:00.123456+01", "-infinity"]],
  ["timestamp", ["2024-02-29 23:59:59.999999", "infinity"]],
  ["mood", ["happy", "Quite, sad"]],
  ["positive", ["1", "2000000000"]],
  ["code", ["A-1", "B-2"]],
  ["app.mood", ["happy", "other schema's"]],
  ["citext", ["Case", "Kept"]],
  ["boolean", ["true", "false"]],
  ["char(8)", ["ab", "cd ef"]],
  ["bytea", ["\\x00ff", "\\x5c27"]],
  ["double precision", ["0.1", "1e-300", "NaN", "-Infinity"]],
  ["interval", ["1 day -02:00", "-1 mon +3 days"]],
  ["text collate caseless", ["Straße", "a,B"]],
  ["inet", ["10.0.0.1", "2001:db8::/32"]],
  ["text[]", ["{}", "{a,b}", '{"a,b",NULL,""}', "{{a,b},{c,d}}"]],
  ["bigint[]", ["{1,2}", "{{3},{4}}"]],
  ["mood[]", ["{happy}", '{happy,"Quite, sad"}']],
  ["route", ["{a}", "{a,b}"]],
  ["int4range", ["[1,5)", "empty"]],
  ["place", ['(1,"a,b")', '(2,"")']],
];

/** Embedded PostgreSQL has no extension but vector. */
const needsServer = (type: string): boolean => db.kind === "embedded" && type === "citext";

const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;

describe("a primary key", () => {
  beforeAll(async () => {
    await db.query(`create schema app;
      create type mood as enum ('happy', 'Quite, sad');
      create type app.mood as enum ('happy', 'other schema''s');
      create domain positive as int check (value > 0);
      create domain route as text[] check (cardinality(value) > 0);
      create type place as (x int, y text);
      create domain code as varchar(10) check (value ~ '^[A-Z]-[0-9]$')`);
    await db.query(
      "create collation caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    );
    if (!needsServer("citext")) await db.query("create extension citext");
  });
  useWorker(db);

  it.for(types)("of %s", async ([type, values], { skip }) => {
    skip(needsServer(type));
    const relation = `"key of ${type}"`;
    const ddl = `create table ${relation} (id ${type} primary key, body text, ${vectorColumns})`;
    await watchTable(db, { relation, ddl });
    const rows = values.map((value, i) => `(${literal(value)}, 'text ${i}')`);
    await db.query(`insert into ${relation} (id, body) values ${rows.join(", ")}`);
    const texts = Object.fromEntries(values.map((_, i) => [`text ${i}`, `text ${i}`]));
    await expectVectors(db, relation, texts, { key: "body" });
    await db.query(`update ${relation} set body = body || ', edited'`);
    const edited = Object.keys(texts).map((text) => [`${text}, edited`, `${text}, edited`]);
    await expectVectors(db, relation, Object.fromEntries(edited) as Record<string, string>, { key: "body" });
  });

  it.for(types)("of %s and int, in the other order of columns", async ([type, values], { skip }) => {
    skip(needsServer(type));
    const relation = `"pair of ${type}"`;
    await watchTable(db, {
      relation,
      ddl: `create table ${relation} (n int, body text, id ${type}, ${vectorColumns}, primary key (id, n))`,
    });
    const rows = values.flatMap((value, i) =>
      [1, 2].map((n) => `(${literal(value)}, ${n}, 'text ${i} ${n}')`),
    );
    await db.query(`insert into ${relation} (id, n, body) values ${rows.join(", ")}`);
    const texts = values.flatMap((_, i) => [1, 2].map((n) => [`text ${i} ${n}`, `text ${i} ${n}`]));
    await expectVectors(db, relation, Object.fromEntries(texts) as Record<string, string>, { key: "body" });
  });

  it("of all these types together, with more rows than one claim takes", async () => {
    const all = types.filter(([type]) => !needsServer(type));
    await watchTable(db, {
      relation: "all_types",
      ddl: `create table all_types (${all.map(([type], i) => `k${i} ${type}`).join(", ")}, n int, body text, ${vectorColumns},
        primary key (${all.map((_, i) => `k${i}`).join(", ")}, n))`,
    });
    const first = all.map(([, values]) => literal(values.at(-1) ?? ""));
    await db.query(
      `insert into all_types select ${first.join(", ")}, n, 'row ' || n from generate_series(1, 200) n`,
    );
    const rows = Array.from({ length: 200 }, (_, i) => [String(i + 1), `row ${i + 1}`]);
    await expectVectors(db, "all_types", Object.fromEntries(rows) as Record<string, string>, { key: "n" });
  });
});

describeServer("a primary key of times, where the database writes them in another style,", () => {
  it.each([
    ["SQL, DMY", "Europe/Berlin"],
    ["German, DMY", "America/New_York"],
    ["Postgres, MDY", "Asia/Kolkata"],
    ["SQL, MDY", "Asia/Shanghai"],
  ])("%s in %s", async (style, zone) => {
    const name = new URL(db.url).pathname.slice(1);
    onTestFinished(async () => {
      await db.query(`alter database "${name}" reset all`);
    });
    await db.query(`alter database "${name}" set datestyle = '${style}'`);
    await db.query(`alter database "${name}" set timezone = '${zone}'`);
    await startTestWorker(db, hashProvider());
    const relation = `"keys in ${style} in ${zone}"`;
    await watchTable(db, {
      relation,
      ddl: `create table ${relation} (at timestamptz, on_day date, body text, ${vectorColumns}, primary key (at, on_day))`,
    });
    await db.query(`insert into ${relation} values ('2024-07-05 12:34:56.789012Z', '2024-02-03', 'summer'),
      ('2024-11-03 05:30:00Z', '2024-03-02', 'a clock set back')`);
    await expectVectors(
      db,
      relation,
      { summer: "summer", "a clock set back": "a clock set back" },
      { key: "body" },
    );
  });
});
