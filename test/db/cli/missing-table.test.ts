import { beforeAll, describe, expect, it } from "vitest";
import { failures, reembed, retry, search, status, unwatch, watch } from "#embedd/index.js";
import { spawnCli } from "../../helpers/cli.js";
import { useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";

const db = useDatabase();
const embedd = (...args: string[]) => spawnCli(args, { env: { DATABASE_URL: db.url } }).exited;

beforeAll(async () => {
  await db.query(`
    create table docs (id int primary key, title text, body text);
    create table "Dossiers" (id int primary key, body text);
    create table plain (id int primary key, title varchar(20), "the body" text, embedding_model text)`);
  for (const table of ["docs", '"Dossiers"'])
    await watch(db.url, { table, content: ["body"], createColumns: 384 });
});

const COMMANDS: [name: string, args: (table: string) => string[]][] = [
  ["unwatch", (table) => ["unwatch", table]],
  ["status", (table) => ["status", "--table", table]],
  ["failures", (table) => ["failures", "--table", table]],
  ["retry", (table) => ["retry", "--table", table]],
  ["reembed", (table) => ["reembed", "--table", table]],
  ["repair", (table) => ["repair", table]],
  ["pause", (table) => ["pause", table]],
  ["resume", (table) => ["resume", table]],
  ["estimate", (table) => ["estimate", "--table", table]],
  ["search", (table) => ["search", "text", "--table", table]],
  ["switch-model", (table) => ["switch-model", table, "--model", "new", "--dimensions", "8"]],
  ["switch-model --status", (table) => ["switch-model", table, "--status"]],
  ["switch-model --abort", (table) => ["switch-model", table, "--abort"]],
];

const FUNCTIONS: [name: string, call: (table: string) => Promise<unknown>][] = [
  ["unwatch", (table) => unwatch(db.url, table)],
  ["status", (table) => status(db.url, { table })],
  ["failures", (table) => failures(db.url, { table })],
  ["retry", (table) => retry(db.url, { table })],
  ["reembed", (table) => reembed(db.url, { table })],
  ["search", (table) => search(db.url, hashProvider(), "text", { table })],
];

describe("a name that no table has is answered with the watched tables that are nearly called so", () => {
  it.each(COMMANDS)("by embedd %s", async (_, args) => {
    expect(await embedd(...args("dcos"))).toMatchObject({
      code: 2,
      stderr:
        "embedd: there is no table dcos; did you mean docs?\n  try: embedd status  # lists the watched tables\n",
    });
  });
  it.each(FUNCTIONS)("by the function %s", async (_, call) => {
    await expect(call("public.dossier")).rejects.toMatchObject({
      code: "no_such_table",
      message: 'there is no table public.dossier; did you mean "Dossiers"?',
    });
  });
  it("unless none is called nearly so", async () => {
    expect((await embedd("pause", "invoices")).stderr).toMatch(/there is no table invoices\n/);
  });
  it("but watch names tables that it could watch", async () => {
    expect((await embedd("watch", "plan", "--content", "body")).stderr).toMatch(
      /there is no table plan; did you mean plain\?\n {2}try: .*pg_tables/,
    );
  });
});

describe("a table that exists but is not watched is refused with the command that watches it", () => {
  const cure = "embedd watch plain --content title 'the body' --create-columns";
  it.each(COMMANDS)("by embedd %s", async (name, args) => {
    const column = /switch-model( --abort)?$/.test(name) ? "column embedding of " : "";
    expect(await embedd(...args("plain"))).toMatchObject({
      code: 2,
      stderr: `embedd: ${column}plain is not watched\n  try: ${cure}\n`,
    });
  });
  it.each(FUNCTIONS)("by the function %s", async (_, call) => {
    await expect(call("plain")).rejects.toMatchObject({ code: "not_watched", hint: cure });
  });
  it("and that command works", async () => {
    await db.query('create table typed (id int primary key, title text, "the body" text)');
    const { stderr } = await embedd("pause", "typed");
    const words = /embedd watch (typed) --content (title) '(the body)' (--create-columns)/.exec(stderr);
    const [, table = "", ...rest] = words ?? [];
    expect(await embedd("watch", table, "--content", ...rest)).toMatchObject({ code: 0 });
    expect(await embedd("pause", "typed")).toMatchObject({ code: 0 });
  });
});

it("a column that is not watched is told from a table that is not", async () => {
  for (const args of [
    ["pause", "docs", "--embedding", "other"],
    ["unwatch", "docs", "--embedding", "other"],
    ["repair", "docs", "--embedding", "other"],
    ["switch-model", "docs", "--embedding", "other", "--model", "new", "--dimensions", "8"],
  ]) {
    expect((await embedd(...args)).stderr).toMatch(/column other of docs is not watched, but embedding is\n/);
  }
  expect((await embedd("search", "text", "--table", "docs", "--embedding", "other")).stderr).toMatch(
    /column other of docs is not watched; these are: public\.docs\.embedding\n/,
  );
});

it("search finds a table by any spelling that SQL takes", async () => {
  expect(await search(db.url, hashProvider(), "text", { table: "DOCS" })).toEqual([]);
});
