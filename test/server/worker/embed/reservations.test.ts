import { beforeEach, expect, it, onTestFinished } from "vitest";
import { silentLogger } from "#embedd/logger.js";
import { takeTurn } from "#embedd/database/turns.sql.js";
import { createUsage } from "#embedd/worker/embed/usage.js";
import { bookUsage, reserveTokens } from "#embedd/worker/embed/usage.sql.js";
import type { DailyLimits } from "#embedd/worker/embed/usage.sql.js";
import { endedOrBlocked } from "../../../helpers/blocked.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { paidProvider } from "../../../helpers/providers.js";

const db = useDatabase();
const request = { pipelineId: 1, model: "paid", tokens: 10, usd: 1 };
const reserve = async (tokens: number, limits: Partial<DailyLimits>): Promise<boolean> =>
  (await reserveTokens(db.pool, { ...request, tokens }, { tokens: null, usd: null, ...limits })).reserved;

/** Tokens that were spent on another day than today, or by a model in the worker's process. */
const spend = (tokens: number, { day = "0 days", local = false } = {}) =>
  db.query(
    `insert into embedd.usage (pipeline_id, day, model, tokens, local)
     values (2, ((now() at time zone 'UTC') + $2::interval)::date, 'paid', $1, $3)`,
    [tokens, day, local],
  );

describeServer("a reservation of tokens", () => {
  beforeEach(async () => {
    await db.query("delete from embedd.usage");
  });

  it("takes the last token of a limit, of today, and of no local model", async () => {
    await spend(1_000, { day: "-1 day" });
    await spend(1_000, { local: true });
    await spend(80);
    expect(await reserve(10, { tokens: 100 })).toBe(true);
    expect(await reserve(10, { tokens: 100 })).toBe(true);
    expect(await reserve(1, { tokens: 100 })).toBe(false);
  });

  it("keeps a limit in dollars", async () => {
    expect(await reserve(10, { usd: 1.5 })).toBe(true);
    expect(await reserve(10, { usd: 1.5 })).toBe(false);
  });

  it("ends when what was spent is booked", async () => {
    const { day } = await reserveTokens(db.pool, request, { tokens: 100, usd: null });
    const spent = { pipelineId: 1, model: "paid", requests: 1, texts: 1, cutTexts: 0, local: false, usd: 0 };
    await bookUsage(db.pool, [{ ...spent, day, tokens: 3, reservedTokens: 10 }]);
    const { rows } = await db.query("select tokens::int, reserved_tokens::int as reserved from embedd.usage");
    expect(rows).toEqual([{ tokens: 3, reserved: 0 }]);
  });

  it("waits for its turn, and counts what was reserved before", async () => {
    const other = await db.pool.connect();
    try {
      await other.query("begin");
      await takeTurn(other, 0, "usage");
      const { rows } = await other.query<{ pid: number }>("select pg_backend_pid() as pid");
      const reserving = reserve(60, { tokens: 100 });
      await endedOrBlocked(db, reserving, rows[0]?.pid ?? 0);
      await other.query(
        "insert into embedd.usage (pipeline_id, day, model, reserved_tokens) values (2, (now() at time zone 'UTC')::date, 'paid', 60)",
      );
      await other.query("commit");
      expect(await reserving).toBe(false);
    } finally {
      other.release();
    }
  });
});

describeServer("a worker's usage", () => {
  beforeEach(async () => {
    await db.query("delete from embedd.usage");
  });
  const booked = async (): Promise<number> =>
    (await db.query<{ tokens: number }>("select coalesce(sum(tokens), 0)::int as tokens from embedd.usage"))
      .rows[0]?.tokens ?? -1;

  it("is written before it stops, also after a fault of the database", async () => {
    let faults = 0;
    const pool = new Proxy(db.pool, {
      get: (target, name) =>
        name === "query" && faults++ === 0
          ? () => Promise.reject(new Error("the database is away"))
          : (Reflect.get(target, name) as unknown),
    });
    const usage = createUsage(pool, paidProvider(), { tokens: null, usd: null }, silentLogger);
    const reservation = await usage.meter(1).reserve(5);
    reservation.settle({ requests: 1, tokens: 5 });
    await usage.stop();
    await usage.stop();
    expect(await booked()).toBe(5);
  });

  it("refuses until midnight once nothing is in flight, and releases at once what was not spent", async () => {
    const usage = createUsage(db.pool, paidProvider(), { tokens: 100, usd: null }, silentLogger);
    onTestFinished(() => usage.stop());
    const meter = usage.meter(1);
    (await meter.reserve(100)).settle({ requests: 1, tokens: 50 });
    (await meter.reserve(50)).settle({ requests: 1, tokens: 50 });
    await expect(meter.reserve(50)).rejects.toMatchObject({ code: "daily_limit" });
  });
});
