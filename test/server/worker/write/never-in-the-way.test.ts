import { expect, it } from "vitest";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { hashProvider, heldProvider } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { connectWriter, expectVectors, watchTable } from "../../../helpers/watched-table.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();

const ROWS = 200;
const keys = Array.from({ length: ROWS }, (_, i) => i + 1);
const insert = (table: string) =>
  db.query(`insert into ${table} (id, body) select i, 'text ' || i from generate_series(1, ${ROWS}) i`);

async function embedded(table: string): Promise<number> {
  const { rows } = await db.query<{ n: number }>(`select count(embedding)::int as n from ${table}`);
  return rows[0]?.n ?? -1;
}

/** Pauses or resumes a pipeline, and resolves when the workers have followed. */
async function setPaused(pipeline: number, paused: boolean): Promise<void> {
  await db.query("update embedd.pipelines set paused = $2 where id = $1", [pipeline, paused]);
  await waitFor(
    async () => {
      const { rows } = await db.query<{ served: boolean }>("select embedd.is_served($1) as served", [
        pipeline,
      ]);
      return rows[0]?.served === !paused;
    },
    { what: "the workers to hear of the pause" },
  );
}

/** Counts the UPDATE statements on a table, also those that change no row or are rolled back. */
async function countUpdates(table: string): Promise<() => Promise<number>> {
  const sequence = `${table}_updates`;
  await db.query(`create sequence ${sequence};
    create function ${sequence}() returns trigger language plpgsql as $$
      begin perform nextval('${sequence}'); return null; end $$;
    create trigger ${sequence} after update on ${table} for each statement execute function ${sequence}()`);
  return async () => {
    const { rows } = await db.query<{ n: number }>(
      `select case when is_called then last_value else 0 end::int as n from ${sequence}`,
    );
    return rows[0]?.n ?? -1;
  };
}

describeServer("applications and the worker never wait for each other", () => {
  it("while a provider's call lasts, its rows are updated and deleted", async () => {
    const { provider, hold, release } = heldProvider(hashProvider());
    await startTestWorker(db, provider, { reuse: false });
    await watchTable(db, { relation: "busy" });
    const held = hold();
    await insert("busy");
    await held;
    const writer = await connectWriter(db.url);
    await writer.query("set lock_timeout = '20s'");
    const expected: Record<string, string> = {};
    // The call ends after these statements, so one that waits for a lock of ours fails.
    for (let turn = 1; turn <= 20; turn++) {
      for (const id of keys) {
        if (id % 10 === 0) {
          if (turn === 1) await writer.query("delete from busy where id = $1", [id]);
        } else {
          expected[String(id)] = id % 3 === 0 ? `text ${id}` : `edit ${turn} of ${id}`;
          await writer.query("update busy set body = $2 where id = $1", [id, expected[String(id)]]);
        }
      }
    }
    release();
    await expectVectors(db, "busy", expected);
  });

  it("a table whose rows are slow to write, as with a vector index, is written in short statements", async () => {
    await startTestWorker(db, hashProvider(), { reuse: false });
    await watchTable(db, { relation: "slow" });
    await db.query(`create function slow_write() returns trigger language plpgsql as $$
        begin perform pg_sleep(0.05); return new; end $$;
      create trigger slow_write before update of embedding on slow for each row execute function slow_write()`);
    const writer = await connectWriter(db.url);
    await db.query("insert into slow (id, body) select i, 'text ' || i from generate_series(1, 400) i");
    let slowestMs = 0;
    while ((await embedded("slow")) < 400) {
      const before = performance.now();
      // Locks only, so that no row is embedded again.
      await writer.query("select from slow where id in (100, 200, 300) for update");
      slowestMs = Math.max(slowestMs, performance.now() - before);
    }
    // All at once would take 20 s.
    expect(slowestMs).toBeGreaterThan(20);
    expect(slowestMs).toBeLessThan(10_000);
  });

  it("a stop writes the held row that was just unlocked, and releases the one that is still locked", async () => {
    const worker = await startTestWorker(db, hashProvider(), { reuse: false });
    const pipeline = await watchTable(db, { relation: "parting" });
    const attempts = await countUpdates("parting");
    await setPaused(pipeline, true);
    await db.query("insert into parting values (1, 'free in time'), (2, 'never free')");
    const [first, second] = [await connectWriter(db.url), await connectWriter(db.url)];
    await first.query("begin; select from parting where id = 1 for update");
    await second.query("begin; select from parting where id = 2 for update");
    await setPaused(pipeline, false);
    await worker.idle();
    await waitFor(async () => (await db.query("select from embedd.leases")).rowCount === 1, {
      what: "both to be computed and leased",
    });
    // The pauses between attempts grow to a second; the stop must not wait for the next one.
    await waitFor(async () => (await attempts()) >= 7, { what: "seven attempts to write" });
    await first.query("commit");
    await worker.stop();
    const { rows } = await db.query("select id, embedding is not null as embedded from parting order by id");
    expect(rows).toEqual([
      { id: 1, embedded: true },
      { id: 2, embedded: false },
    ]);
    expect((await db.query("select from embedd.leases")).rowCount).toBe(0);
    await second.query("delete from parting; commit");
  });

  it("a row that an application holds locked for a minute is written afterwards and computed once, and all others are written at once", async () => {
    const provider = hashProvider();
    // The lease must be renewed all the while.
    await startTestWorker(db, provider, { leaseMs: 20_000, reuse: false });
    const helper = hashProvider();
    await startTestWorker(db, helper, { leaseMs: 20_000, reuse: false });
    const pipeline = await watchTable(db, { relation: "locked" });
    await setPaused(pipeline, true);
    const locker = await connectWriter(db.url);
    await locker.query("insert into locked values (0, 'text 0')");
    await locker.query("begin; select from locked where id = 0 for update");
    await setPaused(pipeline, false);
    const { rows: times } = await db.query<{ started: Date }>("select clock_timestamp() as started");
    await insert("locked");
    await waitFor(async () => (await embedded("locked")) >= ROWS, { what: "the free rows" });
    // A lease of 20 s that ends 80 s after the start has been renewed for a minute.
    const renewed = async () =>
      (
        await db.query("select from embedd.leases where expires_at > $1::timestamptz + interval '80 s'", [
          times[0]?.started,
        ])
      ).rowCount === 1;
    await waitFor(renewed, { timeoutMs: 180_000, what: "the lease to be renewed", intervalMs: 250 });
    expect(await embedded("locked")).toBe(ROWS);
    await locker.query("update locked set body = body where id = 0; commit");
    await waitFor(async () => (await embedded("locked")) === ROWS + 1, { what: "the held row" });
    const texts = [...provider.texts, ...helper.texts];
    expect(new Set(texts).size).toBe(ROWS + 1);
    expect(texts).toHaveLength(ROWS + 1);
  }, 300_000);
});
