import { expect, it } from "vitest";
import { createLogger } from "#embedd/logger.js";
import { loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import {
  cacheVectors,
  evictLeastUsed,
  excessBytes,
  findCached,
} from "#embedd/worker/embed/vector-cache.sql.js";
import { vectorFromBinary } from "#embedd/database/vector-array.js";
import type { BatchOutcome } from "#embedd/worker/rows.js";
import { useDatabase } from "../../../helpers/database.js";
import { hashProvider, hashVector } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { startTestWorker as startWorker } from "../../../helpers/worker.js";

const db = useDatabase();

const startTestWorker: typeof startWorker = (database, provider, options) =>
  startWorker(database, provider, { reuse: true, ...options });

const pending = async (relation: string) =>
  (await db.query(`select from ${relation} where embedding is null`)).rowCount;
const embedded = (relation: string) =>
  waitFor(async () => (await pending(relation)) === 0, { what: `vectors of ${relation}` });
const vectors = async (relation: string) =>
  (await db.query(`select id, embedding::text, embedding_model from ${relation} order by id`)).rows;
const clear = () => db.query("truncate embedd.vectors");

async function createTable(name: string, type = "vector(384)"): Promise<void> {
  await db.query(
    `create table ${name} (id int primary key, body text, embedding ${type}, embedding_model text)`,
  );
  await db.query("select embedd.watch($1, '{body}')", [name]);
}

it("a vector that was made with another prompt is not reused", async () => {
  await clear();
  await createTable("prompts");
  const read = async (reading: string | undefined): Promise<string[]> => {
    const provider = { ...hashProvider(), ...(reading !== undefined && { reading }) };
    const worker = await startTestWorker(db, provider);
    await db.query("truncate prompts; insert into prompts values (1, 'text')");
    await embedded("prompts");
    await worker.idle();
    await worker.stop();
    return provider.texts;
  };
  expect(await read(undefined)).toEqual(["text"]);
  expect(await read("passage: ")).toEqual(["text"]);
  expect(await read("document: ")).toEqual(["text"]);
  expect(await read("passage: ")).toEqual([]);
  expect(await read(undefined)).toEqual([]);
  await clear();
});

it("a table that is emptied and loaded again reuses its cached vectors bit by bit, without the model", async () => {
  await createTable("loads");
  const provider = hashProvider();
  const outcomes: BatchOutcome[] = [];
  const worker = await startTestWorker(db, provider, { onBatch: (_, outcome) => outcomes.push(outcome) });
  const load = "insert into loads select i, 'text ' || i from generate_series(1, 2000) i";
  await db.query(load);
  await embedded("loads");
  const first = await vectors("loads");
  await worker.idle();
  expect(provider.texts).toHaveLength(2_000);

  provider.texts.length = 0;
  outcomes.length = 0;
  await db.query(`truncate loads; ${load}`);
  await embedded("loads");
  await worker.idle();
  await db.query(`delete from loads; ${load}`);
  await embedded("loads");
  expect(provider.texts).toEqual([]);
  expect(await vectors("loads")).toEqual(first);
  expect(outcomes.reduce((sum, { written }) => sum + written, 0)).toBeGreaterThanOrEqual(2_000);
  expect(outcomes.every(({ computed }) => computed === 0)).toBe(true);
});

it("equal texts of one batch are computed once", async () => {
  await clear();
  await createTable("twins");
  await db.query("insert into twins select i, 'twin ' || i % 3 from generate_series(1, 30) i");
  const provider = hashProvider();
  await startTestWorker(db, provider);
  await embedded("twins");
  expect([...provider.texts].sort()).toEqual(["twin 0", "twin 1", "twin 2"]);
});

it("the vector cache is neither filled nor read when reuse is off", async () => {
  await clear();
  await createTable("off");
  await db.query("insert into off values (1, 'same'), (2, 'same')");
  const provider = hashProvider();
  const worker = await startTestWorker(db, provider, { reuse: false });
  await embedded("off");
  expect(provider.texts).toEqual(["same", "same"]);
  await worker.stop();
  expect((await db.query("select from embedd.vectors")).rowCount).toBe(0);
});

it("the vector cache stores no text, and separates models and dimensions", async () => {
  await clear();
  await createTable("wide");
  await createTable("half", "halfvec(384)");
  await createTable("narrow", "vector(3)");
  await db.query("update embedd.pipelines set model = 'b' where relation = 'narrow'::regclass");
  await db.query(
    "insert into wide values (1, 'one text'); insert into half values (1, 'one text'); insert into narrow values (1, 'one text')",
  );
  const a = hashProvider({ model: "a" });
  const b = hashProvider({ model: "b", dimensions: 3 });
  const first = await startTestWorker(db, a);
  await embedded("wide");
  await embedded("half");
  await startTestWorker(db, b);
  await embedded("narrow");
  expect(b.texts).toEqual(["one text"]);
  // halfvec(384) and vector(384) of one model are one vector, computed once unless both tables were embedded at the same time.
  expect(new Set(a.texts)).toEqual(new Set(["one text"]));
  // Cached while the row is written, so perhaps a moment later.
  const cached = () => db.query("select model, dimensions from embedd.vectors order by model");
  await waitFor(async () => (await cached()).rowCount === 2, { what: "cached vectors" });
  expect((await cached()).rows).toEqual([
    { model: "a", dimensions: 384 },
    { model: "b", dimensions: 3 },
  ]);
  const stored = await db.query<{ row: string }>("select v::text as row from embedd.vectors v");
  const shown = stored.rows.map(({ row }) => row).join();
  for (const text of ["one text", Buffer.from("one text").toString("hex")]) expect(shown).not.toContain(text);

  await first.stop();
  const c = hashProvider({ model: "c" });
  await startTestWorker(db, c);
  await db.query("update wide set embedding = null");
  await embedded("wide");
  expect(c.texts).toEqual(["one text"]);
  expect((await db.query("select embedding_model from wide")).rows).toEqual([{ embedding_model: "c" }]);
});

it("a fault of the vector cache fails no batch, and is logged once", async () => {
  await createTable("faults");
  await db.query("alter table embedd.vectors rename to vectors_away");
  const lines: string[] = [];
  const log = createLogger({ level: "silent", format: "json" });
  const spy = (_: object, message: string) => lines.push(message);
  await startTestWorker(db, hashProvider(), {
    log: { ...log, warn: spy, debug: () => undefined },
  });
  try {
    await db.query("insert into faults select i, 'fault ' || i from generate_series(1, 200) i");
    await embedded("faults");
  } finally {
    await db.query("alter table embedd.vectors_away rename to vectors");
  }
  // The worker may also say that it takes over the tables of other tests.
  const ofCache = lines.filter((line) => line.includes("vector cache"));
  expect(ofCache).toEqual(["the vector cache is unavailable, computing all texts"]);
});

it("an edit during the lookup in the vector cache is not lost", async () => {
  await clear();
  await createTable("edits");
  const provider = hashProvider();
  await startTestWorker(db, provider);
  await db.query("insert into edits select i, 'old ' || i from generate_series(1, 500) i");
  await Promise.all(
    Array.from({ length: 10 }, (_, i) =>
      db.query("update edits set body = 'new ' || id % 7 where id % 10 = $1", [i]),
    ),
  );
  await embedded("edits");
  const rows = await db.query<{ body: string; bytes: Buffer }>(
    "select body, vector_send(embedding) as bytes from edits",
  );
  for (const { body, bytes } of rows.rows) expect(vectorFromBinary(bytes)).toEqual(hashVector(body));
});

it("the vector cache marks a vector as used at most once a day, and evicts the least recently used first", async () => {
  await clear();
  const { pipelines } = await loadPipelines(db.pool);
  const pipeline = pipelines.find(({ relation }) => relation === "embedd.chunks");
  if (pipeline === undefined) throw new Error("embedd.chunks is not watched");
  const space = { model: "cached", dimensions: 384 };
  const hash = (i: number) => i.toString(16).padStart(64, "0");
  const rows = Array.from({ length: 1_000 }, (_, i) => ({ hash: hash(i), embedding: hashVector(String(i)) }));
  await cacheVectors(db.pool, pipeline, space, rows);
  await cacheVectors(db.pool, pipeline, space, rows);
  await db.query("update embedd.vectors set used_at = now() - interval '2 days' where text_hash < $1", [
    Buffer.from(hash(100), "hex"),
  ]);
  const found = await findCached(db.pool, pipeline, space, [hash(1), hash(5_000), hash(500)]);
  expect([...found.vectors]).toEqual([
    [hash(1), hashVector("1")],
    [hash(500), hashVector("500")],
  ]);
  expect(found.aged).toEqual([hash(1)]);

  const megabyte = 2 ** 20;
  expect(await excessBytes(db.pool, 100 * megabyte)).toBe(0);
  const excess = await excessBytes(db.pool, megabyte);
  expect(excess).toBeGreaterThan(0.8 * megabyte);
  await evictLeastUsed(db.pool, 50 * 2_144);
  await evictLeastUsed(db.pool, 1);
  const left = await db.query<{ old: number; count: number }>(
    "select count(*)::int as count, count(*) filter (where used_at < now() - interval '1 day')::int as old from embedd.vectors",
  );
  expect(left.rows).toEqual([{ count: 949, old: 49 }]);
});

it("the vector cache stays within its size limit while a worker writes", async () => {
  await clear();
  await createTable("many");
  const worker = await startTestWorker(db, hashProvider(), { reuseMaxMb: 2, maxBatchRows: 128 });
  await db.query("insert into many select i, 'many ' || i from generate_series(1, 3000) i");
  await embedded("many");
  await worker.idle();
  const { rows } = await db.query<{ bytes: number }>(
    "select sum(pg_column_size(embedding) + 600)::int as bytes from embedd.vectors",
  );
  expect(rows[0]?.bytes).toBeLessThan(3.5 * 2 ** 20);
  expect(rows[0]?.bytes).toBeGreaterThan(1.5 * 2 ** 20);
});
