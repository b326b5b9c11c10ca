import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { committedMigrations } from "#embedd/admin/migrate.js";

const src = fileURLToPath(new URL("../../src/", import.meta.url));

/** Resolves what its caller's path says, so it may not have a path of its own. */
const WITHOUT_PATH = ["caller_path"];

const withoutComments = (sql: string): string => sql.replace(/--.*$/gm, "").replace(/\/\*[\s\S]*?\*\//g, "");

/** The strings of a TypeScript file, without comments. */
function statementsOf(typescript: string): string {
  const code = typescript.replace(/^\s*(\/\/|\*|\/\*\*).*$/gm, "").replace(/\/\*\*?[\s\S]*?\*\//g, "");
  return withoutComments(
    [...code.matchAll(/`(?:\\.|[^`\\])*`|"(?:\\.|[^"\\\n])*"/g)].map(([text]) => text).join("\n"),
  );
}

/** Names of what the migrations create in embedd's schema. */
function createdNames(sql: string, kinds: string): Set<string> {
  const created = new RegExp(`create (?:unlogged )?(?:${kinds}) embedd\\.(\\w+)`, "g");
  return new Set([...sql.matchAll(created)].map(([, name = ""]) => name));
}

/** Functions without a fixed search path. */
function functionsWithoutPath(sql: string): string[] {
  return [...sql.matchAll(/create function embedd\.(\w+)([\s\S]*?)\bas \$\$/g)]
    .filter(([, , head = ""]) => !/^set search_path = pg_catalog, pg_temp$/m.test(head.trimEnd()))
    .map(([, name = ""]) => name);
}

/** Tables and views of embedd without its schema. Any other table fails at once, because pg_catalog has none of that name. */
function bareTables(sql: string): string[] {
  const named = new Set(
    [...sql.matchAll(/\b([a-z_]+)\s*(?:\([^()]*\))?\s+as\s+(?:not\s+)?(?:materialized\s+)?\(/g)].map(
      ([, name = ""]) => name,
    ),
  );
  const used = /\b(?:from|join|into|update|table|truncate|using|on)\s+([a-z_]+)\b(?!\s*[.(])/g;
  return [...sql.matchAll(used)]
    .map(([, name = ""]) => name)
    .filter((name) => !named.has(name) && relations.has(name));
}

/** Functions of embedd that are called without its schema. */
function bareCalls(sql: string): string[] {
  return [...sql.matchAll(/(?<![.\w'])([a-z_]+)\(/g)]
    .map(([, name = ""]) => name)
    .filter((name) => functions.has(name));
}

const migrations = (await committedMigrations()).map(({ name, body }) => ({
  name,
  sql: withoutComments(body),
}));
const everything = migrations.map(({ sql }) => sql).join("\n");
const relations = createdNames(everything, "table|view|sequence");
const functions = createdNames(everything, "function");
const files = (await readdir(src, { recursive: true })).filter((file) => file.endsWith(".sql.ts"));
const statements = await Promise.all(
  files.map(async (name) => ({ name, sql: statementsOf(await readFile(join(src, name), "utf8")) })),
);

it("every function in the migrations has a search path of its own, and every migration sets one first", () => {
  expect(migrations.flatMap(({ sql }) => functionsWithoutPath(sql))).toEqual(WITHOUT_PATH);
  for (const { name, sql } of migrations) {
    const [before = ""] = sql.split("set local search_path = pg_catalog, pg_temp;");
    // The extension goes where the installing role's path says.
    expect(
      before
        .replace("create extension if not exists vector;", "")
        .replace(/^--!.*$/gm, "")
        .trim(),
      name,
    ).toBe("");
  }
});

it("every table and every function of embedd is named with its schema, in migrations and in *.sql.ts", () => {
  expect(relations.size).toBeGreaterThan(10);
  expect(functions.size).toBeGreaterThan(100);
  expect(files.length).toBeGreaterThan(40);
  const bare = [...migrations, ...statements].flatMap(({ name, sql }) =>
    [...bareTables(sql), ...bareCalls(sql)].map((word) => `${name}: ${word}`),
  );
  expect(bare).toEqual([]);
});

it("a statement with a name that lacks its schema is noticed", () => {
  expect(bareTables("select from pipelines p join embedd.leases l on true")).toEqual(["pipelines"]);
  expect(bareTables("update failures f set dead = true")).toEqual(["failures"]);
  expect(bareTables("with found as (select 1) delete from vectors using found")).toEqual(["vectors"]);
  expect(bareCalls("select notify('1'), embedd.notify('1')")).toEqual(["notify"]);
  expect(functionsWithoutPath("create function embedd.f() returns void\nlanguage sql as $$ $$")).toEqual([
    "f",
  ]);
  expect(statementsOf("const a = `select 1 from docs`; // from nowhere\n/** from elsewhere */")).toBe(
    "`select 1 from docs`",
  );
});
