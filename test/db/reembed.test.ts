import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { EmbeddError } from "#embedd/errors.js";
import type { Provider } from "#embedd/providers/provider.js";
import { findStale } from "#embedd/sql/find-stale.js";
import { loadPipelines } from "#embedd/sql/load-pipelines.js";
import { endReembedding, pipelinesOf, startReembedding, stopReembedding } from "#embedd/sql/reembed.js";
import { describeServer, useDatabase } from "../helpers/database.js";
import { hashProvider, hashVector, parseVector } from "../helpers/providers.js";
import { spawnCli } from "../helpers/process.js";
import { waitFor } from "../helpers/wait.js";
import { startTestWorker } from "../helpers/worker.js";

const db = useDatabase();
let table = "";
let number = 0;

interface TableOptions {
  rows: number;
  columns?: string;
  keys?: string;
  index?: boolean;
}

/** A watched table whose rows all have vectors of model a, and an audit of what becomes of each vector. */
async function staleTable({ rows, columns = "id int primary key", keys = "i", index = false }: TableOptions) {
  table = `stale_${++number}`;
  await db.query(
    `create table ${table} (${columns}, body text, embedding vector(384), embedding_model text);
     insert into ${table} select ${keys}, 'text ' || i from generate_series(1, ${rows}) i`,
  );
  await db.query("select embedd.watch($1, '{body}')", [table]);
  const worker = await startTestWorker(db, hashProvider({ model: "a" }), { reuse: false });
  await worker.idle();
  await worker.stop();
  if (index) await db.query(`create index on ${table} using hnsw (embedding vector_cosine_ops)`);
  await db.query(`
    create table ${table}_audit (n int generated always as identity, body text, old_model text, new_model text, missing boolean);
    create function ${table}_audit() returns trigger language plpgsql as $$ begin
      insert into ${table}_audit (body, old_model, new_model, missing)
      values (new.body, old.embedding_model, new.embedding_model, new.embedding is null);
      return null; end $$;
    create trigger audit after update on ${table} for each row execute function ${table}_audit()`);
}

const reembed = () =>
  db.query("update embedd.pipelines set reembed = true where relation = $1::regclass", [table]);
const flag = async () =>
  (
    await db.query<{ reembed: boolean }>(
      "select reembed from embedd.pipelines where relation = $1::regclass",
      [table],
    )
  ).rows[0]?.reembed;
const over = () =>
  waitFor(async () => (await flag()) === false, { timeoutMs: 20_000, what: "the flag to be cleared" });
const models = async () =>
  (
    await db.query<{ model: string; n: number }>(
      `select embedding_model as model, count(*)::int as n from ${table} group by 1 order by 1`,
    )
  ).rows;
const audit = async () =>
  (
    await db.query<{ n: number; bodies: number; missing: number }>(
      `select count(*)::int as n, count(distinct body)::int as bodies, count(*) filter (where missing)::int as missing from ${table}_audit`,
    )
  ).rows[0];

async function expectRightVectors(): Promise<void> {
  const { rows } = await db.query<{ body: string; vector: string }>(
    `select body, embedding::text as vector from ${table}`,
  );
  for (const { body, vector } of rows) {
    const right = hashVector(body);
    expect(parseVector(vector).every((component, i) => Math.abs(component - (right[i] ?? NaN)) < 1e-6)).toBe(
      true,
    );
  }
}

/** Its calls take a moment, so that something can happen meanwhile. */
function slow(ms: number, inner = hashProvider({ model: "b" })): Provider & { texts: string[] } {
  return {
    ...inner,
    async embed(texts, options) {
      await new Promise((resolve) => setTimeout(resolve, ms));
      return inner.embed(texts, options);
    },
  };
}

beforeEach(async () => {
  if (table !== "") await db.query(`select embedd.unwatch('${table}')`);
  await db.query("delete from embedd.vectors");
  table = "";
});

describe("stale rows", () => {
  it.each([
    ["a plain key", {}],
    ["a composite key", { columns: "a int, b text, primary key (a, b)", keys: "i % 7, 'k' || i" }],
    ["a key that only citext compares", { columns: "id citext primary key", keys: "'K' || i" }],
    ["an HNSW index", { index: true }],
  ])("are all embedded again exactly once, none ever without a vector: %s", async (name, options) => {
    if (name.includes("citext")) {
      const there = await db.query("select from pg_available_extensions where name = 'citext'");
      if (there.rowCount === 0) return;
      await db.query("create extension if not exists citext");
    }
    await staleTable({ rows: 1_000, ...options });
    const provider = hashProvider({ model: "b" });
    const worker = await startTestWorker(db, provider);
    await worker.idle();
    expect(provider.texts).toEqual([]);
    expect(await models()).toEqual([{ model: "a", n: 1_000 }]);
    await reembed();
    await over();
    expect(await models()).toEqual([{ model: "b", n: 1_000 }]);
    expect(await audit()).toEqual({ n: 1_000, bodies: 1_000, missing: 0 });
    expect(provider.texts).toHaveLength(1_000);
    await expectRightVectors();
    expect((await db.query("select from embedd.failures")).rowCount).toBe(0);
  });

  it("newest first", async () => {
    await staleTable({ rows: 300 });
    const provider = { ...hashProvider({ model: "b" }), concurrency: 1 };
    await reembed();
    await startTestWorker(db, provider);
    await over();
    expect(provider.texts).toEqual(Array.from({ length: 300 }, (_, i) => `text ${300 - i}`));
  });

  it("let fresh ones pass, which are claimed beside the batch that is in flight", async () => {
    await staleTable({ rows: 400 });
    const inner = hashProvider({ model: "b" });
    const calls: (readonly string[])[] = [];
    let held: (() => void)[] | null = [];
    const provider: Provider = {
      ...inner,
      async embed(texts) {
        calls.push(texts);
        await new Promise<void>((resolve) => (held === null ? resolve() : held.push(resolve)));
        return inner.embed(texts);
      },
    };
    const called = (times: number) =>
      waitFor(() => calls.length === times, { timeoutMs: 10_000, what: `call ${times}` });
    await reembed();
    await startTestWorker(db, provider, { maxBatchRows: 50, pollIntervalMs: 3_600_000 });
    await called(1);
    expect(calls[0]?.[0]).toBe("text 400");
    // The worker sleeps as far as writers can tell, and is woken.
    await db.query(`insert into ${table} values (1000, 'fresh')`);
    await called(2);
    expect(calls[1]).toEqual(["fresh"]);
    held.splice(1).forEach((release) => {
      release();
    });
    await waitFor(async () => (await models())[1]?.n === 1, { timeoutMs: 10_000, what: "the fresh row" });
    // Nothing else was begun: one call is left free for what comes.
    expect(calls).toHaveLength(2);
    for (const release of held) release();
    held = null;
    await over();
    expect(await models()).toEqual([{ model: "b", n: 401 }]);
  });

  it("that are edited or deleted meanwhile get the vector of their new text, or none", async () => {
    await staleTable({ rows: 600 });
    await startTestWorker(db, slow(20), { maxBatchRows: 32 });
    await reembed();
    for (let i = 0; i < 20; i++) {
      await db.query(`update ${table} set body = 'edited ' || id || ' ' || $1 where id % 20 = $1`, [i]);
      await db.query(`delete from ${table} where id % 60 = $1`, [i]);
    }
    await over();
    await waitFor(
      async () => (await db.query(`select from ${table} where embedding is null`)).rowCount === 0,
      { timeoutMs: 10_000, what: "the edited rows" },
    );
    expect(await models()).toEqual([{ model: "b", n: 400 }]);
    await expectRightVectors();
  });

  it("go on where a worker that stopped in the middle has left them", async () => {
    await staleTable({ rows: 500 });
    const first = slow(10);
    const worker = await startTestWorker(db, first, { maxBatchRows: 32, reuse: false });
    await reembed();
    await waitFor(() => first.texts.length > 100, { timeoutMs: 10_000, what: "the middle" });
    await worker.stop();
    expect(await flag()).toBe(true);
    const done = (await models()).find(({ model }) => model === "b")?.n ?? 0;
    expect(done).toBeGreaterThan(50);
    expect(done).toBeLessThan(500);
    const second = hashProvider({ model: "b" });
    await startTestWorker(db, second, { reuse: false });
    await over();
    expect(second.texts).toHaveLength(500 - done);
    expect(await audit()).toEqual({ n: 500, bodies: 500, missing: 0 });
  });

  it("are shared by two workers without computing one twice", async () => {
    await staleTable({ rows: 1_000 });
    const providers = [slow(5), slow(5)];
    for (const provider of providers) await startTestWorker(db, provider, { maxBatchRows: 32, reuse: false });
    await reembed();
    await over();
    const texts = providers.flatMap((provider) => provider.texts);
    expect(texts).toHaveLength(1_000);
    expect(new Set(texts).size).toBe(1_000);
    for (const provider of providers) expect(provider.texts.length).toBeGreaterThan(100);
    expect(await audit()).toEqual({ n: 1_000, bodies: 1_000, missing: 0 });
  });

  it("that cannot be embedded are dead after their attempts, keep their vectors, and hold up nothing", async () => {
    await staleTable({ rows: 100 });
    const inner = hashProvider({ model: "b" });
    const picky: Provider = {
      ...inner,
      embed: (texts) =>
        texts.includes("text 33")
          ? Promise.reject(new EmbeddError("input refused", { kind: "row", code: "bad_input" }))
          : inner.embed(texts),
    };
    await startTestWorker(db, picky, { maxAttempts: 3, retryDelayMs: 10 });
    await reembed();
    await over();
    expect((await db.query("select key, attempts, code, dead, stale from embedd.failures")).rows).toEqual([
      { key: "33", attempts: 3, code: "bad_input", dead: true, stale: true },
    ]);
    expect(await models()).toEqual([
      { model: "a", n: 1 },
      { model: "b", n: 99 },
    ]);
    // A dead row that has a vector hides no row that waits for one.
    await db.query("update embedd.pipelines set paused = true where relation = $1::regclass", [table]);
    await db.query(`insert into ${table} values (1000, 'waits')`);
    const { rows } = await db.query("select pending::int, dead::int from embedd.status where relation = $1", [
      table,
    ]);
    expect(rows).toEqual([{ pending: 1, dead: 1 }]);
    await db.query("update embedd.pipelines set paused = false where relation = $1::regclass", [table]);
    await waitFor(
      async () => (await db.query(`select from ${table} where embedding is null`)).rowCount === 0,
      {
        timeoutMs: 10_000,
        what: "the fresh row",
      },
    );
  });

  it("whose failed attempts are due when it is stopped are forgotten", async () => {
    await staleTable({ rows: 50 });
    const inner = hashProvider({ model: "b" });
    const refusing: Provider = {
      ...inner,
      embed: () => Promise.reject(new EmbeddError("input refused", { kind: "row", code: "bad_input" })),
    };
    await startTestWorker(db, refusing, { retryDelayMs: 50, maxAttempts: 1_000 });
    await reembed();
    await waitFor(async () => (await db.query("select from embedd.failures")).rowCount === 50, {
      timeoutMs: 10_000,
      what: "the failures",
    });
    expect(await stopReembedding(db.pool, await pipelinesOf(db.pool, table))).toBe(1);
    await waitFor(async () => (await db.query("select from embedd.failures")).rowCount === 0, {
      timeoutMs: 10_000,
      what: "the failures to be forgotten",
    });
    expect(await models()).toEqual([{ model: "a", n: 50 }]);
  });

  it("are left alone without the flag", async () => {
    await staleTable({ rows: 20 });
    const provider = hashProvider({ model: "b" });
    const worker = await startTestWorker(db, provider);
    await db.query(`insert into ${table} values (1000, 'fresh')`);
    await waitFor(async () => (await models()).length === 2, { timeoutMs: 10_000, what: "the fresh row" });
    await worker.idle();
    expect(provider.texts).toEqual(["fresh"]);
  });

  it("are those of the present model for no other, which does not end it either", async () => {
    await staleTable({ rows: 20 });
    await reembed();
    const pipeline = (await loadPipelines(db.pool)).pipelines.find(({ relation }) =>
      relation.endsWith(table),
    );
    if (pipeline === undefined) throw new Error("the table is not watched");
    const search = { limit: 3, cursor: null };
    expect(await findStale(db.pool, pipeline, { ...search, model: "b" })).toMatchObject({ keys: [] });
    expect(await endReembedding(db.pool, pipeline.id, "b")).toBe(false);
    await db.query("update embedd.pipelines set served_model = 'b' where id = $1", [pipeline.id]);
    expect(await findStale(db.pool, pipeline, { ...search, model: "b" })).toEqual({
      keys: [["20"], ["19"], ["18"]],
      cursor: ["18"],
      over: false,
    });
    expect(await findStale(db.pool, pipeline, { ...search, model: "b", cursor: ["3"] })).toEqual({
      keys: [["2"], ["1"]],
      cursor: ["1"],
      over: true,
    });
  });

  it("are not done while somebody has rows leased", async () => {
    await staleTable({ rows: 5 });
    const { rows } = await db.query<{ id: number }>(
      "select id from embedd.pipelines where relation = $1::regclass",
      [table],
    );
    const id = rows[0]?.id ?? 0;
    await startReembedding(db.pool, [id]);
    await db.query(
      "insert into embedd.leases (pipeline_id, worker, keys, expires_at) values ($1, 0, '{1}', now() + interval '1 hour')",
      [id],
    );
    onTestFinished(async () => {
      await db.query("delete from embedd.leases where pipeline_id = $1", [id]);
    });
    expect(await endReembedding(db.pool, id, "a")).toBe(false);
    await db.query("delete from embedd.leases where pipeline_id = $1", [id]);
    expect(await endReembedding(db.pool, id, "a")).toBe(true);
  });

  it("with a blank text or another writer's vector: the first stays, the second is replaced", async () => {
    await staleTable({ rows: 1 });
    const vector = `[${Array.from(hashVector("theirs")).join(",")}]`;
    await db.query(
      `insert into ${table} values (2, '  ', $1, 'theirs'), (3, 'named', $1, 'theirs'), (4, 'unnamed', $1, null)`,
      [vector],
    );
    await startTestWorker(db, hashProvider({ model: "b" }));
    await reembed();
    await over();
    expect((await db.query(`select id, embedding_model as model from ${table} order by id`)).rows).toEqual([
      { id: 1, model: "b" },
      { id: 2, model: "theirs" },
      { id: 3, model: "b" },
      { id: 4, model: "b" },
    ]);
  });
});

const embedd = (...args: string[]) =>
  spawnCli(["reembed", ...args], { env: { DATABASE_URL: db.url } }).exited;
const serve = (model: string) =>
  db.query("update embedd.pipelines set served_model = $2 where relation = $1::regclass", [table, model]);

// With one session for all, a worker of an earlier test still seems to be connected.
describeServer("embedd reembed without a worker", () => {
  it("says what to start where there is no worker, and can be stopped", async () => {
    await staleTable({ rows: 10 });
    await serve("b");
    const started = await embedd();
    expect(started).toMatchObject({ code: 3 });
    expect(started.stderr).toMatch(/no worker is connected.*embedd run/);
    expect(await flag()).toBe(true);
    expect(await embedd("--stop")).toMatchObject({ code: 0 });
    expect(await flag()).toBe(false);
    expect((await embedd("--stop")).stdout).toMatch(/nothing is being embedded again/);
    expect(await models()).toEqual([{ model: "a", n: 10 }]);
  });
});

describe("embedd reembed", () => {
  it("says what it replaces, shows the end, and has nothing to do the second time", async () => {
    await staleTable({ rows: 200 });
    await db.query(`update ${table} set embedding_model = null where id = 7`);
    await serve("b");
    await startTestWorker(db, slow(5), { maxBatchRows: 32 });
    const first = await embedd("--table", table);
    expect(first).toMatchObject({ code: 0 });
    expect(first.stdout).toMatch(
      new RegExp(
        `^${table}\\.embedding: 1 rows of no named model, 199 rows of a, to be replaced by vectors of b$`,
        "m",
      ),
    );
    expect(first.stdout).toMatch(/^200 rows embedded again in/m);
    expect(await models()).toEqual([{ model: "b", n: 200 }]);
    const second = await embedd("--table", table);
    expect(second).toMatchObject({ code: 0 });
    expect(second.stdout).toMatch(/no row has a vector of another model/);
  });

  it("goes on after Ctrl-C, which ends only the watching", async () => {
    await staleTable({ rows: 400 });
    await serve("b");
    await startTestWorker(db, slow(100), { maxBatchRows: 32 });
    const watching = spawnCli(["reembed"], { env: { DATABASE_URL: db.url } });
    await watching.waitForLine(/to be replaced/);
    await waitFor(async () => (await models()).length === 2, { timeoutMs: 10_000, what: "the first batch" });
    watching.child.kill("SIGINT");
    expect(await watching.exited).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/go on/) as string,
    });
    expect(await flag()).toBe(true);
    await over();
    expect(await models()).toEqual([{ model: "b", n: 400 }]);
  });

  it("refuses a table that is not there, and says which are not served and why", async () => {
    await staleTable({ rows: 1 });
    expect(await embedd("--table", "nowhere")).toMatchObject({ code: 2 });
    await db.query("update embedd.pipelines set error = 'it does not fit' where relation = $1::regclass", [
      table,
    ]);
    expect(await embedd("--table", table)).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/it does not fit[^]*switch-model/) as string,
    });
  });
});
