import { expect, it, onTestFinished } from "vitest";
import { retryFailures } from "#embedd/admin/failures.sql.js";
import { stopReembedding } from "#embedd/admin/request-reembed.sql.js";
import { unwatch, watch } from "#embedd/admin/watch.js";
import type { WatchOptions } from "#embedd/admin/watch.js";
import { loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import { takeWindow } from "#embedd/worker/claim/refresh-windows.sql.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider, heldProvider, slowProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { expectVectors } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();
let number = 0;

async function withClient<T>(work: (client: Parameters<typeof watch>[0]) => Promise<T>): Promise<T> {
  const client = await db.pool.connect();
  try {
    return await work(client);
  } finally {
    client.release();
  }
}

const watchTable = (relation: string, options: Partial<WatchOptions> = {}) =>
  withClient((client) => watch(client, { relation, content: ["body"], embedding: "embedding", ...options }));

/** A watched table of rows with vectors, that no worker serves any more. */
async function embeddedTable({
  rows,
  columns = "id int primary key",
  keys = "i",
}: {
  rows: number;
  columns?: string;
  keys?: string;
}): Promise<string> {
  const table = `refreshed_${++number}`;
  await db.query(
    `create table ${table} (${columns}, title text, body text, embedding vector(384), embedding_model text);
     insert into ${table} select ${keys}, 'title ' || i, 'text ' || i from generate_series(1, ${rows}) i`,
  );
  await watchTable(table);
  const worker = await startTestWorker(db, hashProvider());
  await worker.idle();
  await worker.stop();
  onTestFinished(async () => {
    await db.query(`drop table ${table}; delete from embedd.pipelines where relation::text !~ 'chunks'`);
  });
  return table;
}

const state = async (table: string) =>
  (
    await db.query<{ gap: string | null; refreshing: boolean; refresh_left: string | null; pending: string }>(
      "select gap, refreshing, refresh_left, pending from embedd.status where relation = $1::regclass::text",
      [table],
    )
  ).rows[0];

const refresh = (table: string) =>
  db.query("select embedd.resolve_gap(id, 'refresh') from embedd.pipelines where relation = $1::regclass", [
    table,
  ]);

const untilRefreshed = (table: string) =>
  waitFor(
    async () =>
      (
        await db.query(
          "select from embedd.pipelines where relation = $1::regclass and refresh_started_at is null",
          [table],
        )
      ).rowCount === 1,
    { what: "the end of the refresh" },
  );

const versions = async (table: string) =>
  (await db.query<{ xmin: string }>(`select xmin::text from ${table} order by 1`)).rows.map(
    (row) => row.xmin,
  );

/** What `expectVectors` is told about a table of this file. */
const texts = (rows: number, text: (i: number) => string | null) =>
  Object.fromEntries(Array.from({ length: rows }, (_, i) => [String(i + 1), text(i + 1)]));

it.each(["keep", "refresh"] as const)("unwatch, an edit, and watch with --existing %s", async (existing) => {
  const table = await embeddedTable({ rows: 30 });
  await withClient((client) => unwatch(client, table));
  await db.query(`update ${table} set body = 'edited' where id = 7`);
  const before = await db.query("select id from embedd.pipelines");
  await expect(watchTable(table)).rejects.toMatchObject({
    kind: "configuration",
    code: "existing_vectors",
    hint: expect.stringMatching(/refresh[^]*keep/) as string,
  });
  expect((await db.query("select id from embedd.pipelines")).rows).toEqual(before.rows);
  await watchTable(table, { existing });
  expect(await state(table)).toMatchObject({ gap: null, refreshing: existing === "refresh" });
  const worker = await startTestWorker(db, hashProvider());
  await worker.idle();
  if (existing === "refresh") {
    await untilRefreshed(table);
    await expectVectors(
      db,
      table,
      texts(30, (i) => (i === 7 ? "edited" : `text ${i}`)),
    );
  } else {
    await expect(
      expectVectors(
        db,
        table,
        texts(30, (i) => (i === 7 ? "edited" : `text ${i}`)),
      ),
    ).rejects.toThrow();
    expect(await state(table)).toMatchObject({ gap: null, refreshing: false, pending: "0" });
  }
});

it("another template changes the pipeline in place", async () => {
  const table = await embeddedTable({ rows: 20 });
  const template = "about {body}";
  await expect(watchTable(table, { template })).rejects.toMatchObject({ code: "existing_vectors" });
  expect(await state(table)).toMatchObject({ refreshing: false });
  await watchTable(table, { template, existing: "refresh" });
  await startTestWorker(db, hashProvider());
  await untilRefreshed(table);
  await expectVectors(
    db,
    table,
    texts(20, (i) => `about text ${i}`),
  );
  await expect(watchTable(table, { template })).rejects.toMatchObject({ code: "already_watched" });
});

it("other content columns change the pipeline in place, and its triggers and index", async () => {
  const table = await embeddedTable({ rows: 20 });
  await db.query(`update ${table} set title = null where id = 3`);
  await db.query(`insert into ${table} values (21, 'only a title', '  ')`);
  const worker = await startTestWorker(db, hashProvider());
  await worker.idle();
  const id = await watchTable(table, { content: ["title"], existing: "refresh" });
  await untilRefreshed(table);
  // A blank text has no vector, and a text that is no longer blank gets one.
  const expected = texts(20, (i) => (i === 3 ? null : `title ${i}`));
  await expectVectors(db, table, { ...expected, "21": "only a title" });
  await db.query(
    `update ${table} set title = 'new' where id = 5; update ${table} set body = 'other' where id = 6`,
  );
  await expectVectors(db, table, { ...expected, "5": "new", "21": "only a title" });
  const { rows } = await db.query<{ indexdef: string }>(
    "select indexdef from pg_indexes where tablename = $1 and indexname like 'embedd%'",
    [table],
  );
  expect(rows).toHaveLength(1);
  expect(rows[0]?.indexdef).toMatch(new RegExp(`embedd_${id}_pending .*title`));
});

it("with keep, another definition holds for rows that are written from then on", async () => {
  const table = await embeddedTable({ rows: 5 });
  await watchTable(table, { content: ["title", "body"], existing: "keep" });
  await startTestWorker(db, hashProvider());
  await db.query(`update ${table} set title = 'new' where id = 2`);
  await expectVectors(
    db,
    table,
    texts(5, (i) => (i === 2 ? "new\ntext 2" : `text ${i}`)),
  );
  expect(await state(table)).toMatchObject({ gap: null, refreshing: false });
});

it("a batch of the old definition writes nothing after the change", async () => {
  const table = await embeddedTable({ rows: 1 });
  const { provider, hold, release } = heldProvider(hashProvider());
  await startTestWorker(db, provider);
  const held = hold();
  await db.query(`insert into ${table} values (2, 'title 2', 'text 2')`);
  await held;
  await watchTable(table, { template: "about {body}", existing: "keep" });
  release();
  await expectVectors(db, table, { "1": "text 1", "2": "about text 2" });
});

it("equal vectors are not written, and others are", async () => {
  const table = await embeddedTable({ rows: 2_200 });
  await db.query(
    `update ${table} set embedding = (select embedding from ${table} where id = 1) where id = 10`,
  );
  await db.query(`update ${table} set embedding_model = 'other' where id = 11`);
  const before = await versions(table);
  await refresh(table);
  expect(await state(table)).toMatchObject({ refreshing: true, refresh_left: "2200" });
  const provider = hashProvider();
  await startTestWorker(db, provider);
  await untilRefreshed(table);
  expect(provider.texts).toHaveLength(2_200);
  expect((await versions(table)).filter((version) => !before.includes(version))).toHaveLength(2);
  await expectVectors(
    db,
    table,
    texts(2_200, (i) => `text ${i}`),
  );
  expect((await db.query("select from embedd.refresh_windows")).rowCount).toBe(0);
  expect((await db.query("select from embedd.leases")).rowCount).toBe(0);
});

it("cached vectors are reused", async () => {
  const table = await embeddedTable({ rows: 50 });
  await db.query("delete from embedd.vectors");
  const provider = hashProvider();
  await startTestWorker(db, provider, { reuse: true });
  for (const computed of [50, 50]) {
    await refresh(table);
    await untilRefreshed(table);
    expect(provider.texts).toHaveLength(computed);
  }
});

it("newest rows come first, and pending rows before all of them", async () => {
  const table = await embeddedTable({ rows: 300 });
  const inner = hashProvider();
  const { provider, hold, release } = heldProvider({ ...inner, concurrency: 1 });
  const first = hold();
  await refresh(table);
  await startTestWorker(db, provider, { maxBatchRows: 20 });
  expect((await first)[0]).toBe("text 300");
  await db.query(`insert into ${table} values (1000, '', 'fresh')`);
  release();
  await untilRefreshed(table);
  expect(inner.texts.indexOf("fresh")).toBeLessThan(50);
  expect(inner.texts.filter((text) => text !== "fresh")).toEqual(
    Array.from({ length: 300 }, (_, i) => `text ${300 - i}`),
  );
});

it("rows that are edited, deleted or held meanwhile end with the right vector", async () => {
  const table = await embeddedTable({ rows: 600 });
  await refresh(table);
  const writer = await db.pool.connect();
  try {
    if (db.kind === "server") {
      await writer.query("begin");
      await writer.query(`update ${table} set title = 'held' where id = 300`);
      await db.query(`update ${table} set embedding = embedding, embedding_model = 'other' where id = 301`);
    }
    await startTestWorker(db, slowProvider(10), { maxBatchRows: 32 });
    for (let i = 0; i < 10; i++) {
      await db.query(`update ${table} set body = 'edited ' || id where id % 20 = $1 and id <> 300`, [i]);
      await db.query(`delete from ${table} where id % 60 = $1 and id <> 300`, [10 + i]);
    }
    if (db.kind === "server") await writer.query("commit");
  } finally {
    writer.release();
  }
  await untilRefreshed(table);
  const { rows } = await db.query<{ id: number; body: string }>(`select id, body from ${table}`);
  await expectVectors(db, table, Object.fromEntries(rows.map(({ id, body }) => [String(id), body])));
});

describeServer("a window", () => {
  it("is not taken for the end of the refresh while a transaction holds the pipeline's row", async () => {
    const table = await embeddedTable({ rows: 10 });
    await refresh(table);
    const { pipelines } = await loadPipelines(db.pool);
    const pipeline = pipelines.find(({ relation }) => relation === `public.${table}`);
    if (pipeline === undefined) throw new Error(`${table} has no pipeline`);
    const take = () =>
      takeWindow(db.pool, pipeline, { worker: 1, mine: [], model: "hash", windowMs: 60_000 });
    await withClient(async (holder) => {
      await holder.query("begin");
      await holder.query("select from embedd.pipelines where id = $1 for update", [pipeline.id]);
      expect(await take()).toBe("busy");
      await holder.query("commit");
    });
    expect(await take()).toMatchObject({ below: null, downTo: null });
    await stopReembedding(db.pool, [pipeline.id]);
    expect(await take()).toBeNull();
  });
});

describeServer("keys", () => {
  it.each([
    ["a composite key", "a int, b text, primary key (a, b)", "i % 7, 'k ' || i"],
    [
      "a key that only citext compares",
      "id citext primary key",
      "case i % 2 when 0 then 'K' else 'k' end || i",
    ],
    ["a composite key with citext", "a int, b citext, primary key (a, b)", "i % 7, 'k' || i"],
  ])("%s", async (_, columns, keys) => {
    await db.query("create extension if not exists citext");
    const table = await embeddedTable({ rows: 2_500, columns, keys });
    await db.query(`update ${table} set embedding_model = 'other'`);
    await refresh(table);
    const provider = hashProvider();
    await startTestWorker(db, provider);
    await untilRefreshed(table);
    expect(new Set(provider.texts).size).toBe(2_500);
    expect(provider.texts).toHaveLength(2_500);
    const { rows } = await db.query(`select from ${table} where embedding_model <> 'hash'`);
    expect(rows).toHaveLength(0);
  });
});

it("two workers share the rows, and none is computed twice", async () => {
  const table = await embeddedTable({ rows: 5_000 });
  const providers = [hashProvider(), hashProvider()];
  // Each worker's first batch ends after the other's has begun.
  const held = providers.map((provider) => heldProvider(provider));
  const begun = held.map(({ hold }) => hold());
  for (const { provider } of held) await startTestWorker(db, provider, { maxBatchRows: 200 });
  await refresh(table);
  await Promise.all(begun);
  for (const { release } of held) release();
  await untilRefreshed(table);
  const all = providers.flatMap(({ texts }) => texts);
  expect(all).toHaveLength(5_000);
  expect(new Set(all).size).toBe(5_000);
});

it("a worker that stopped in the middle repeats at most its window", async () => {
  const table = await embeddedTable({ rows: 5_000 });
  const first = slowProvider(100);
  const worker = await startTestWorker(db, first, { maxBatchRows: 200 });
  await refresh(table);
  await waitFor(() => first.texts.length > 2_500, { what: "the middle" });
  await db.query("update embedd.pipelines set paused = true where relation = $1::regclass", [table]);
  await worker.stop();
  expect(await state(table)).toMatchObject({ refreshing: true });
  await db.query("update embedd.pipelines set paused = false where relation = $1::regclass", [table]);
  const second = hashProvider();
  await startTestWorker(db, second);
  await untilRefreshed(table);
  expect(new Set([...first.texts, ...second.texts]).size).toBe(5_000);
  expect(second.texts.length).toBeLessThanOrEqual(5_000 - first.texts.length + 2_000);
});

it("a row that fails is charged, the refresh ends, and retry takes up that row alone", async () => {
  const table = await embeddedTable({ rows: 40 });
  await db.query(`
    update ${table} set embedding_model = 'other';
    create function ${table}_guard() returns trigger language plpgsql as $$ begin
      if new.id = 13 then raise exception 'no'; end if; return new; end $$;
    create trigger guard before update of embedding on ${table} for each row execute function ${table}_guard()`);
  await refresh(table);
  const provider = hashProvider();
  await startTestWorker(db, provider, { maxAttempts: 2, retryDelayMs: 20 });
  await untilRefreshed(table);
  const failures = await db.query("select key, dead, stale, code from embedd.failures");
  expect(failures.rows).toEqual([{ key: "13", dead: true, stale: true, code: "P0001" }]);
  // The row names the current model, so re-embedding stale rows does not find it.
  await db.query(`update ${table} set embedding_model = 'hash' where id = 13`);
  await db.query("update embedd.pipelines set reembed = true where relation = $1::regclass", [table]);
  await waitFor(
    async () =>
      (await db.query("select from embedd.pipelines where relation = $1::regclass and not reembed", [table]))
        .rowCount === 1,
    { what: "the end of the re-embedding" },
  );
  expect((await db.query("select key, dead, stale, code from embedd.failures")).rows).toEqual(failures.rows);
  await db.query(`drop trigger guard on ${table}`);
  provider.texts.length = 0;
  expect(await retryFailures(db.pool, { relation: table })).toBe(1);
  await untilRefreshed(table);
  expect(provider.texts).toEqual(["text 13"]);
  expect((await db.query("select from embedd.failures")).rowCount).toBe(0);
  expect((await db.query(`select from ${table} where embedding_model = 'other'`)).rowCount).toBe(0);
});

it("a refresh that is stopped leaves a gap, which another refresh closes", async () => {
  const table = await embeddedTable({ rows: 500 });
  await refresh(table);
  await startTestWorker(db, slowProvider(300), { maxBatchRows: 32 });
  const ids = [
    (await db.query<{ id: number }>("select id from embedd.pipelines where relation = $1::regclass", [table]))
      .rows[0]?.id ?? 0,
  ];
  expect(await stopReembedding(db.pool, ids)).toEqual([{ relation: table, refreshing: true }]);
  expect(await state(table)).toMatchObject({
    refreshing: false,
    gap: expect.stringMatching(/stopped/) as string,
  });
  expect((await db.query("select from embedd.refresh_windows")).rowCount).toBe(0);
  await refresh(table);
  await untilRefreshed(table);
  expect(await state(table)).toMatchObject({ gap: null });
});
