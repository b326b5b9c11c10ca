import pg from "pg";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import {
  EmbeddError,
  createProvider,
  createWorker,
  embedQuery,
  failures,
  migrate,
  reembed,
  retry,
  search,
  status,
  unwatch,
  vectorToSql,
  watch,
} from "#embedd/index.js";
import type { Database, Provider } from "#embedd/index.js";
import { useDatabase } from "../helpers/database.js";
import { hashProvider } from "../helpers/providers.js";
import { startTestWorker } from "../helpers/worker.js";

const db = useDatabase();

async function thrownBy(call: () => unknown): Promise<unknown> {
  try {
    await call();
    return null;
  } catch (error) {
    return error;
  }
}

describe.each<[string, () => Database]>([
  ["an address", () => db.url],
  ["a pool", () => db.pool],
])("the library with %s", (name, database) => {
  const table = name === "a pool" ? "pooled" : "addressed";

  it("watches a table, serves it, searches it and stops watching it", async () => {
    await db.query(`create table ${table} (id int primary key, title text, body text)`);
    await db.query(`insert into ${table} values (1, 'one', 'first'), (2, 'two', 'second')`);
    const id = await watch(database(), { table, content: ["title", "body"], createColumns: 384 });
    expect(await status(database(), { table })).toMatchObject([{ pipeline: id, pending: 2 }]);
    const provider = hashProvider();
    const worker = await startTestWorker(db, provider);
    await worker.idle();
    const [nearest] = await search(database(), provider, "two\nsecond", { table, limit: 1, maxChars: 4 });
    expect(nearest).toMatchObject({ key: "2", content: { title: "two", body: "seco" }, truncated: ["body"] });
    expect(Object.keys(nearest?.content ?? {})).toEqual(["title", "body"]);
    const vector = await embedQuery(provider, "one\nfirst");
    const { rows } = await db.query(`select id from ${table} order by embedding <=> $1::vector limit 1`, [
      vectorToSql(vector),
    ]);
    expect(rows).toEqual([{ id: 1 }]);
    expect(await failures(database(), { table })).toEqual([]);
    expect(await retry(database(), { table })).toBe(0);
    expect(await reembed(database(), { table, rows: "all" })).toEqual([id]);
    await worker.idle();
    expect(await unwatch(database(), table)).toBe(1);
    expect(await thrownBy(() => status(database(), { table }))).toMatchObject({ code: "not_watched" });
  });

  it("says with a code what the database refuses", async () => {
    expect(await thrownBy(() => watch(database(), { table: "nowhere", content: ["body"] }))).toMatchObject({
      code: "no_such_table",
    });
    expect(await thrownBy(() => unwatch(database(), "nowhere"))).toMatchObject({ code: "no_such_table" });
    expect(await thrownBy(() => reembed(database(), { table: "nowhere" }))).toMatchObject({
      code: "no_such_table",
    });
    expect(
      await thrownBy(() => search(database(), hashProvider(), "text", { table: "nowhere" })),
    ).toMatchObject({
      code: "no_such_table",
    });
  });
});

describe("a database without the schema", () => {
  let url: string;
  beforeAll(async () => {
    ({ url } = await db.createDatabase());
  });

  it("is told to migrate by every function", async () => {
    const calls: (() => Promise<unknown>)[] = [
      () => status(url),
      () => failures(url),
      () => retry(url),
      () => reembed(url),
      () => watch(url, { table: "docs", content: ["body"] }),
      () => unwatch(url, "docs"),
      () => search(url, hashProvider(), "text"),
      () => createWorker({ databaseUrl: url, provider: hashProvider() }),
    ];
    for (const call of calls) {
      expect(await thrownBy(call), String(call)).toMatchObject({
        code: "not_migrated",
        hint: "embedd migrate",
      });
    }
  });
});

describe("an invalid argument is refused by its name", () => {
  const provider = hashProvider();
  const never = undefined as never;
  const worker = (options: object) => () => createWorker({ databaseUrl: db.url, provider, ...options });
  const api = (options: object) => () => createProvider({ provider: "openai", apiKey: "k", ...options });
  const cases: [string, () => unknown, RegExp][] = [
    [
      "no address",
      () => createWorker({ databaseUrl: never, provider }),
      /createWorker: databaseUrl: must be a string/,
    ],
    [
      "an address of another kind",
      () => migrate("mysql://host/db"),
      /migrate: databaseUrl: it .* must look like postgres:/,
    ],
    ["no address to migrate", () => migrate(never), /migrate: databaseUrl: must be a string/],
    ["no database", () => status(never), /status: database: must be an address/],
    [
      "a number as database",
      () => search(42 as never, provider, "x"),
      /search: database: must be an address/,
    ],
    ["no provider", worker({ provider: undefined }), /provider: must be a provider/],
    ["a negative lease", worker({ leaseMs: -5 }), /leaseMs: must be a whole number from 1/],
    ["a lease in words", worker({ leaseMs: "5s" }), /leaseMs: must be a whole number/],
    ["half a row", worker({ maxBatchRows: 0.5 }), /maxBatchRows: must be a whole number/],
    ["two connections", worker({ maxConnections: 2 }), /maxConnections: must be a whole number from 3/],
    ["not a number", worker({ maxUsdPerDay: Number.NaN }), /maxUsdPerDay: must be a number/],
    ["two options at once", worker({ leaseMs: 0, batchMs: 0 }), /batchMs: .*; leaseMs: /],
    [
      "more texts per request than any server takes",
      api({ requestInputs: 2_049 }),
      /requestInputs: .* to 2048/,
    ],
    ["requests without a text", api({ requestInputs: 0 }), /requestInputs: must be a whole number from 1/],
    ["requests without a token", api({ requestTokens: 0 }), /requestTokens: must be a whole number from 1/],
    ["no request at a time", api({ concurrency: 0 }), /concurrency: must be a whole number from 1/],
    ["no content", () => watch(db.url, { table: "docs", content: [] }), /watch: content: /],
    [
      "content that is no list",
      () => watch(db.url, { table: "docs", content: "body" as never }),
      /content: must be a list/,
    ],
    ["no options", () => watch(db.url, never), /watch: /],
    [
      "another choice",
      () => watch(db.url, { table: "docs", content: ["a"], existing: "maybe" as never }),
      /existing: must be keep or refresh/,
    ],
    ["an empty query", () => search(db.url, provider, ""), /query: must not be empty/],
    ["no limit", () => failures(db.url, { limit: 0 }), /failures: limit: must be a whole number from 1/],
    ["other rows", () => reembed(db.url, { rows: "some" as never }), /rows: must be stale, all or none/],
    [
      "no such provider",
      () => createProvider({ provider: "mine" as never }),
      /createProvider: provider: must be local, /,
    ],
    ["no provider options", () => createProvider(never), /createProvider: /],
    [
      "no threads",
      () => createProvider({ provider: "local", threads: 0 }),
      /threads: must be a whole number from 1/,
    ],
    ["no vector", () => vectorToSql("[1]" as never), /vectorToSql: must be a Float32Array/],
  ];

  it.each(cases)("%s", async (_, call, message) => {
    const error = await thrownBy(call);
    expect(error).toBeInstanceOf(EmbeddError);
    expect(error).toMatchObject({ kind: "configuration", code: "argument" });
    expect((error as Error).message).toMatch(message);
  });

  it("dimensions that the model does not have", async () => {
    const fixed: Provider = hashProvider({ dimensions: 8 });
    expect(await thrownBy(() => embedQuery(fixed, "text", { dimensions: 4 }))).toMatchObject({
      code: "dimensions",
    });
  });
});

it("a pool that a program handed over stays open", async () => {
  const pool = new pg.Pool({ connectionString: db.url, max: 1 });
  onTestFinished(() => pool.end());
  await status(pool);
  await status(pool);
  expect(pool.totalCount).toBe(1);
  expect((await pool.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
});
