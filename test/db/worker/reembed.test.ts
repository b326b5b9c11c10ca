import { describe, expect, it } from "vitest";
import type { Provider } from "#embedd/providers/provider.js";
import { itServer, useDatabase } from "../../helpers/database.js";
import { hashProvider, slowProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { startTestWorker } from "../../helpers/worker.js";
import { useStaleTable } from "../../helpers/stale-table.js";
import type { TableOptions } from "../../helpers/stale-table.js";

const db = useDatabase();
const stale = useStaleTable(db);
const slowB = (ms: number) => slowProvider(ms, hashProvider({ model: "b" }));
const { staleTable, requestReembed, flag, untilReembedded, models, audit, expectRightVectors } = stale;

describe("stale rows", () => {
  const each = "are re-embedded exactly once, and none is ever without a vector:";

  async function expectEachOnce(options: Partial<TableOptions>): Promise<void> {
    await staleTable({ rows: 1_000, ...options });
    const provider = hashProvider({ model: "b" });
    const worker = await startTestWorker(db, provider);
    await worker.idle();
    expect(provider.texts).toEqual([]);
    expect(await models()).toEqual([{ model: "a", n: 1_000 }]);
    await requestReembed();
    await untilReembedded();
    expect(await models()).toEqual([{ model: "b", n: 1_000 }]);
    expect(await audit()).toEqual({ n: 1_000, bodies: 1_000, missing: 0 });
    expect(provider.texts).toHaveLength(1_000);
    await expectRightVectors();
    expect((await db.query("select from embedd.failures")).rowCount).toBe(0);
  }

  it.each([
    ["a plain key", {}],
    ["a composite key", { columns: "a int, b text, primary key (a, b)", keys: "i % 7, 'k' || i" }],
    ["an HNSW index", { index: true }],
  ])(`${each} %s`, (_, options) => expectEachOnce(options));

  itServer(`${each} a key that only citext compares`, async () => {
    await db.query("create extension citext");
    await expectEachOnce({ columns: "id citext primary key", keys: "'K' || i" });
  });

  it("are re-embedded newest first", async () => {
    await staleTable({ rows: 300 });
    const provider = { ...hashProvider({ model: "b" }), concurrency: 1 };
    await requestReembed();
    await startTestWorker(db, provider);
    await untilReembedded();
    expect(provider.texts).toEqual(Array.from({ length: 300 }, (_, i) => `text ${300 - i}`));
  });

  it("let new rows pass, which are claimed while a batch is in flight", async () => {
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
    const called = (times: number) => waitFor(() => calls.length === times, { what: `call ${times}` });
    await requestReembed();
    await startTestWorker(db, provider, { maxBatchRows: 50 });
    await called(1);
    expect(calls[0]?.[0]).toBe("text 400");
    // To writers the worker seems asleep, so they wake it.
    await db.query(`insert into ${stale.table} values (1000, 'fresh')`);
    await called(2);
    expect(calls[1]).toEqual(["fresh"]);
    held.splice(1).forEach((release) => {
      release();
    });
    await waitFor(async () => (await models())[1]?.n === 1, { what: "the fresh row" });
    // No other call has begun: one stays free for new rows.
    expect(calls).toHaveLength(2);
    for (const release of held) release();
    held = null;
    await untilReembedded();
    expect(await models()).toEqual([{ model: "b", n: 401 }]);
  });

  it("that are edited meanwhile get the vector of their new text, and deleted rows stay deleted", async () => {
    await staleTable({ rows: 600 });
    await startTestWorker(db, slowB(20), { maxBatchRows: 32 });
    await requestReembed();
    for (let i = 0; i < 20; i++) {
      await db.query(`update ${stale.table} set body = 'edited ' || id || ' ' || $1 where id % 20 = $1`, [i]);
      await db.query(`delete from ${stale.table} where id % 60 = $1`, [i]);
    }
    await untilReembedded();
    await waitFor(
      async () => (await db.query(`select from ${stale.table} where embedding is null`)).rowCount === 0,
      { what: "the edited rows" },
    );
    expect(await models()).toEqual([{ model: "b", n: 400 }]);
    await expectRightVectors();
  });

  it("are continued where a worker stopped", async () => {
    await staleTable({ rows: 500 });
    const first = slowB(100);
    const worker = await startTestWorker(db, first, { maxBatchRows: 32, reuse: false });
    await requestReembed();
    await waitFor(() => first.texts.length > 100, { what: "the middle" });
    await worker.stop();
    expect(await flag()).toBe(true);
    const done = (await models()).find(({ model }) => model === "b")?.n ?? 0;
    expect(done).toBeGreaterThan(50);
    expect(done).toBeLessThan(500);
    const second = hashProvider({ model: "b" });
    await startTestWorker(db, second, { reuse: false });
    await untilReembedded();
    expect(second.texts).toHaveLength(500 - done);
    expect(await audit()).toEqual({ n: 500, bodies: 500, missing: 0 });
  });

  it("are shared by two workers, and none is computed twice", async () => {
    await staleTable({ rows: 1_000 });
    const providers = [slowB(100), slowB(100)];
    for (const provider of providers) await startTestWorker(db, provider, { maxBatchRows: 32, reuse: false });
    await requestReembed();
    await untilReembedded();
    const texts = providers.flatMap((provider) => provider.texts);
    expect(texts).toHaveLength(1_000);
    expect(new Set(texts).size).toBe(1_000);
    for (const provider of providers) expect(provider.texts.length).toBeGreaterThan(100);
    expect(await audit()).toEqual({ n: 1_000, bodies: 1_000, missing: 0 });
  });
});
