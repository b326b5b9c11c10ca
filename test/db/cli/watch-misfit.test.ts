import { beforeAll, describe, expect, it } from "vitest";
import { watch } from "#embedd/index.js";
import { spawnCli } from "../../helpers/cli.js";
import { useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";

const db = useDatabase();
const embedd = (args: string[], env: Record<string, string> = {}) =>
  spawnCli(args, { env: { DATABASE_URL: db.url, ...env } }).exited;
const OPENAI = { EMBEDD_PROVIDER: "openai", OPENAI_API_KEY: "sk-1" };

const isWatched = async (table: string) =>
  (await db.query("select from embedd.pipelines where relation = to_regclass($1)", [table])).rowCount === 1;

beforeAll(() =>
  db.query(`
    create table narrow (id int primary key, body text, embedding vector(3), embedding_model text);
    create table pinned (like narrow including all);
    create table wide (id int primary key, body text, embedding vector(1536), embedding_model text);
    create table bare (id int primary key, body text);
    create table library (like narrow including all)`),
);

describe("watch says at once that a column does not fit", () => {
  it("the model of its settings, and what to type", async () => {
    const { code, stderr } = await embedd(["watch", "narrow", "--content", "body"]);
    expect(code).toBe(0);
    expect(stderr).toMatch(
      /warning: column embedding of narrow is vector\(3\), but all-MiniLM-L6-v2 makes 384 dimensions/,
    );
    const cure = /or: {2}(embedd unwatch narrow .*) && (embedd watch narrow .*)/.exec(stderr);
    for (const line of cure?.slice(1) ?? [""]) {
      expect(await embedd(line.split(" ").slice(1)), line).toMatchObject({ code: 0 });
    }
    expect((await embedd(["status"])).stdout).toMatch(/narrow\.embedding_384/);
    expect(await embedd(["run", "--once"])).toMatchObject({ code: 0 });
  });

  it("the model that it is pinned to, and changes nothing", async () => {
    const pinned = ["watch", "pinned", "--content", "body", "--model", "nomic-embed-text"];
    const { code, stderr } = await embedd(pinned);
    expect(code).toBe(2);
    expect(stderr).toMatch(/is vector\(3\), but nomic-embed-text makes 768 dimensions\n {2}try: /);
    expect(await isWatched("pinned")).toBe(false);
    const line = /try: (.*)/.exec(stderr)?.[1] ?? "";
    expect(await embedd(line.split(" ").slice(1))).toMatchObject({ code: 0 });
  });

  it("the dimensions that were asked for", async () => {
    const asked = ["watch", "wide", "--content", "body", "--create-columns", "--dimensions", "384"];
    const { code, stderr } = await embedd(asked);
    expect(code).toBe(2);
    expect(stderr).toMatch(/column embedding of wide exists and is vector\(1536\), not vector\(384\)/);
    expect(await isWatched("wide")).toBe(false);
  });

  it("unless the settings name a model that can make it", async () => {
    const { stderr } = await embedd(["watch", "wide", "--content", "body", "--create-columns"], OPENAI);
    expect(stderr).not.toMatch(/warning/);
    expect(await isWatched("wide")).toBe(true);
  });

  it("and creates columns that do", async () => {
    const ada = { ...OPENAI, EMBEDD_MODEL: "text-embedding-ada-002" };
    const { stderr } = await embedd(["watch", "bare", "--content", "body", "--create-columns"], ada);
    expect(stderr).not.toMatch(/warning/);
    const { rows } = await db.query(
      "select format_type(atttypid, atttypmod) as type from pg_attribute where attrelid = 'bare'::regclass and attname = 'embedding'",
    );
    expect(rows).toEqual([{ type: "vector(1536)" }]);
  });
});

describe("the function watch refuses a column that", () => {
  const refused = (options: object) =>
    watch(db.url, { table: "library", content: ["body"], ...options }).then(
      () => expect.fail("it was watched"),
      (error: unknown) => error,
    );
  it("the provider can never fill", async () => {
    expect(await refused({ provider: hashProvider() })).toMatchObject({
      kind: "configuration",
      code: "dimensions",
    });
  });
  it("the model that it is pinned to can never fill", async () => {
    expect(await refused({ model: "all-MiniLM-L6-v2" })).toMatchObject({ code: "dimensions" });
  });
  it("has other dimensions than the columns to create", async () => {
    expect(await refused({ createColumns: 384 })).toMatchObject({ code: "dimensions" });
  });
  it("and says what is no provider", async () => {
    expect(await refused({ provider: {} })).toMatchObject({ code: "argument" });
  });
});
