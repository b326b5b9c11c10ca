import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { beforeEach, expect, it, onTestFinished } from "vitest";
import { readStatus } from "#embedd/admin/status.sql.js";
import { createLogger } from "#embedd/logger.js";
import { createProvider } from "#embedd/providers/create-provider.js";
import type { Provider } from "#embedd/providers/provider.js";
import { bookUsage } from "#embedd/worker/embed/usage.sql.js";
import { createUsage } from "#embedd/worker/embed/usage.js";
import { spawnCli } from "../../../helpers/cli.js";
import { useDatabase } from "../../../helpers/database.js";
import { hashProvider, paidProvider } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { startTestWorker } from "../../../helpers/worker.js";

const DAY_MS = 86_400_000;
const db = useDatabase();

// A day's usage and limits end at midnight, UTC, so a test that begins in the last minute waits for it.
beforeEach(async () => {
  const left = DAY_MS - (Date.now() % DAY_MS);
  if (left < 60_000) await sleep(left);
});

beforeEach(async () => {
  await db.query("delete from embedd.chunks; delete from embedd.usage; delete from embedd.vectors");
  await db.query("update embedd.pipelines set wait_reason = null, wait_until = null");
});

const insert = (rows: number) =>
  db.query(
    "insert into embedd.chunks (source, content) select 's', 'text ' || i from generate_series(1, $1::int) i",
    [rows],
  );

const embedded = async (): Promise<number> =>
  (await db.query<{ n: number }>("select count(embedding)::int as n from embedd.chunks")).rows[0]?.n ?? -1;

const chunks = async () => (await readStatus(db.pool)).find((s) => s.relation === "embedd.chunks");

it("usage is recorded by pipeline, day and model, and shown in embedd.status", async () => {
  await insert(500);
  const worker = await startTestWorker(db, paidProvider());
  await worker.idle();
  await worker.stop();
  const { rows } = await db.query<{
    today: boolean;
    model: string;
    tokens: string;
    requests: string;
    usd: string;
  }>(
    "select day = (now() at time zone 'UTC')::date as today, model, tokens, requests, usd from embedd.usage",
  );
  expect(rows).toHaveLength(1);
  expect(rows[0]).toMatchObject({ today: true, model: "paid", tokens: "5000" });
  expect(Number(rows[0]?.usd)).toBeCloseTo(500);
  expect(Number(rows[0]?.requests)).toBeGreaterThan(1);
  expect(await chunks()).toMatchObject({
    tokensToday: 5_000,
    requestsToday: Number(rows[0]?.requests),
    usdToday: 500,
  });
});

it.each([
  ["tokens", { maxTokensPerDay: 1_234 }, /daily limit of 1234 tokens/],
  ["dollars", { maxUsdPerDay: 123.4 }, /daily limit of \$123\.4/],
])(
  "the daily limit in %s stops two workers at the last row that fits, and status shows it",
  async (_, limit, message) => {
    await insert(500);
    const providers = [paidProvider(), paidProvider()];
    const workers = await Promise.all(providers.map((provider) => startTestWorker(db, provider, limit)));
    await waitFor(async () => message.test((await chunks())?.waitReason ?? ""), {
      what: "the limit in embedd.status",
    });
    await waitFor(async () => (await embedded()) === 123, { what: "the rows that fit" });
    expect((await chunks())?.tokensToday).toBe(1_230);
    // `idle()`, which run --once uses, does not wait for the next day.
    await Promise.all(workers.map((worker) => worker.idle()));
    const midnight = new Date();
    midnight.setUTCHours(24, 0, 0, 0);
    const until = (await chunks())?.waitUntil?.getTime() ?? 0;
    expect(Math.abs(until - midnight.getTime())).toBeLessThan(60_000);
    expect((await db.query("select from embedd.failures")).rowCount).toBe(0);
    expect((await db.query("select from embedd.leases")).rowCount).toBe(0);
  },
);

it("unspent tokens of a request are available at once, and a worker briefly waits for reservations of others", async () => {
  const provider = paidProvider();
  const usage = createUsage(
    db.pool,
    provider,
    { tokens: 1_000, usd: null },
    createLogger({ level: "silent", format: "json" }),
  );
  onTestFinished(() => usage.stop());
  const meter = usage.meter(1);
  const failed = await meter.reserve(600);
  await expect(meter.reserve(600)).rejects.toMatchObject({ retryAfterMs: 1_000 });
  failed.settle({ requests: 1, tokens: 0 });
  const good = await meter.reserve(600);
  good.settle({ requests: 1, tokens: 600 });
  await expect(meter.reserve(600)).rejects.toMatchObject({ code: "daily_limit" });
});

it("usage is recorded on the day of its reservation", async () => {
  await db.query(
    "insert into embedd.usage (pipeline_id, day, model, reserved_tokens, usd) values (1, '2020-02-02', 'paid', 50, 5)",
  );
  const spent = {
    pipelineId: 1,
    model: "paid",
    requests: 1,
    tokens: 20,
    texts: 3,
    cutTexts: 2,
    local: false,
    reservedTokens: 50,
    usd: -3,
  };
  await bookUsage(db.pool, [{ ...spent, day: "2020-02-02" }]);
  const { rows } = await db.query(
    "select day::text, requests, tokens, cut_texts as cut, reserved_tokens, usd from embedd.usage",
  );
  expect(rows).toEqual([
    { day: "2020-02-02", requests: "1", tokens: "20", cut: "2", reserved_tokens: "0", usd: "2" },
  ]);
});

it("the reservation of a dead worker counts as spent", async () => {
  await db.query(
    "insert into embedd.usage (pipeline_id, day, model, reserved_tokens) values (99, (now() at time zone 'UTC')::date, 'paid', 1000)",
  );
  await insert(200);
  await startTestWorker(db, paidProvider(), { maxTokensPerDay: 1_500 });
  await waitFor(async () => (await embedded()) === 50, { what: "the rows that fit" });
  await waitFor(async () => (await chunks())?.waitReason !== null, { what: "the limit" });
  expect(await embedded()).toBe(50);
});

it("a limit in dollars needs a price", async () => {
  const provider = paidProvider({ usdPerMillionTokens: null });
  await expect(startTestWorker(db, provider, { maxUsdPerDay: 1 })).rejects.toMatchObject({
    kind: "configuration",
    code: "unknown_price",
  });
});

it("the local model's tokens and cut texts are recorded, and status, doctor and estimate show their share", async () => {
  const long = "a sentence that goes on ".repeat(120);
  await db.query(
    "insert into embedd.chunks (source, content) select 's', i || $1 from generate_series(1, 4) i",
    [long],
  );
  await db.query("insert into embedd.chunks (source, content) values ('s', 'short'), ('s', 'short too')");
  const embedd = (...args: string[]) => spawnCli(args, { env: { DATABASE_URL: db.url } }).exited;
  const estimated = await embedd("estimate", "--trial", "2");
  expect(estimated.stdout).toContain("cut     4 of 6 (67 %) of the sampled rows");
  // The trial of a local model spends nothing.
  expect((await db.query("select from embedd.usage")).rowCount).toBe(0);
  const provider = await createProvider({ provider: "local" });
  onTestFinished(() => provider.close());
  // A limit that an API would have reached.
  const worker = await startTestWorker(db, provider, { maxTokensPerDay: 10 });
  await worker.idle();
  await worker.stop();
  const { rows } = await db.query<{
    local: boolean;
    requests: number;
    cut: number;
    texts: number;
    tokens: number;
  }>("select local, requests::int, cut_texts::int as cut, texts::int, tokens::int from embedd.usage");
  expect(rows).toHaveLength(1);
  expect(rows[0]).toMatchObject({ local: true, requests: 0, cut: 4, texts: 6 });
  expect(rows[0]?.tokens).toBe(4 * 256 + 3 + 4);
  expect(await chunks()).toMatchObject({
    cutTextsToday: 4,
    textsToday: 6,
    tokensToday: rows[0]?.tokens,
    usdToday: 0,
  });
  const status = await embedd("status");
  expect(status.stdout).toMatch(/today {5}1031 tokens, 4 texts cut at the model's limit/);
  expect(status.stdout).toContain("cut       4 of 6 (67 %) of today's texts; split long texts");
  const doctor = await embedd("doctor");
  expect(doctor.stdout).toContain("warn  embedd.chunks.embedding: 4 of 6 (67 %) of today's texts were cut");
});

it("tokens of a local model count toward no limit of an API", async () => {
  await db.query(
    "insert into embedd.usage (pipeline_id, day, model, local, tokens) values (1, (now() at time zone 'UTC')::date, 'paid', true, 1000000)",
  );
  const usage = createUsage(
    db.pool,
    paidProvider(),
    { tokens: 1_000, usd: null },
    createLogger({ level: "silent", format: "json" }),
  );
  onTestFinished(() => usage.stop());
  const reservation = await usage.meter(1).reserve(600);
  reservation.settle({ requests: 1, tokens: 600, texts: 60 });
  await usage.stop();
  const { rows } = await db.query(
    "select local, tokens::int, texts::int, reserved_tokens::int as reserved from embedd.usage order by local",
  );
  expect(rows).toEqual([
    { local: false, tokens: 600, texts: 60, reserved: 0 },
    { local: true, tokens: 1_000_000, texts: 0, reserved: 0 },
  ]);
});

it("a local model's reservations never ask the database", async () => {
  const usage = createUsage(
    new pg.Pool({ connectionString: "postgres://nobody@127.0.0.1:1/nowhere" }),
    { ...paidProvider(), runsHere: true },
    { tokens: 1, usd: 1 },
    createLogger({ level: "silent", format: "json" }),
  );
  const reservation = await usage.meter(1).reserve(1_000);
  reservation.settle({ requests: 0, tokens: 1_000 });
  await usage.stop();
});

it("a text that is cut at EMBEDD_MAX_CHARS counts as cut, once, and one of exactly that length does not", async () => {
  await db.query("insert into embedd.chunks (source, content) values ('s', $1), ('s', $2), ('s', $3)", [
    "ñ🚀".repeat(128),
    `${"é🚀".repeat(128)}.`,
    "x".repeat(300),
  ]);
  const metered = hashProvider();
  const provider: Provider = {
    ...metered,
    runsHere: true,
    async embed(texts, { meter, cutBefore, ...options } = {}) {
      const reservation = await meter?.reserve(1);
      const cutTexts = texts.filter((text) => cutBefore?.has(text)).length;
      reservation?.settle({ requests: 0, tokens: texts.length, texts: texts.length, cutTexts });
      return metered.embed(texts, options);
    },
  };
  const worker = await startTestWorker(db, provider, { maxChars: 256 });
  await worker.idle();
  await worker.stop();
  expect(await chunks()).toMatchObject({ textsToday: 3, cutTextsToday: 2 });
  expect(new Set(metered.texts)).toEqual(new Set(["ñ🚀".repeat(128), "é🚀".repeat(128), "x".repeat(256)]));
});
