import { beforeEach, expect, it, onTestFinished } from "vitest";
import { readStatus } from "#embedd/admin/status.sql.js";
import { createLogger } from "#embedd/logger.js";
import { bookUsage } from "#embedd/worker/embed/usage.sql.js";
import { createUsage } from "#embedd/worker/embed/usage.js";
import { useDatabase } from "../../../helpers/database.js";
import { paidProvider } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();

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
      timeoutMs: 20_000,
      what: "the limit in embedd.status",
    });
    await waitFor(async () => (await embedded()) === 123, { timeoutMs: 20_000, what: "the rows that fit" });
    expect((await chunks())?.tokensToday).toBe(1_230);
    // `idle()`, which run --once uses, does not wait for the next day.
    await Promise.all(workers.map((worker) => worker.idle()));
    const midnight = new Date();
    midnight.setUTCHours(24, 0, 0, 0);
    const until = (await chunks())?.waitUntil?.getTime() ?? 0;
    expect(Math.abs(until - midnight.getTime())).toBeLessThan(5_000);
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
    cutTexts: 2,
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
  await waitFor(async () => (await embedded()) === 50, { timeoutMs: 20_000, what: "the rows that fit" });
  await waitFor(async () => (await chunks())?.waitReason !== null, { timeoutMs: 20_000, what: "the limit" });
  expect(await embedded()).toBe(50);
});

it("a limit in dollars needs a price", async () => {
  const provider = paidProvider({ usdPerMillionTokens: null });
  await expect(startTestWorker(db, provider, { maxUsdPerDay: 1 })).rejects.toMatchObject({
    kind: "configuration",
    code: "unknown_price",
  });
});
