import { expect, it } from "vitest";
import { waitFor } from "../helpers/wait.js";
import { COMPLETION_LOCK } from "./schema.js";
import { describeFaults, useStage } from "./use-stage.js";
import type { TestStage } from "./use-stage.js";
import type { WorkerSlot } from "./workers.js";

const LOAD = { latencyMs: 300, worker: { maxBatchRows: 50 } };
const SHUTDOWN_MS = 2_000;
/** Far more than a stop takes beyond its work, on a busy machine too. What must not be waited for takes longer. */
const BUSY_MS = 45_000;
const NO_DEADLINE_MS = 300_000;

async function ready(slot: WorkerSlot | undefined): Promise<WorkerSlot> {
  if (slot === undefined) throw new Error("one worker");
  slot.start();
  await slot.waitUntilReady();
  return slot;
}

async function stop(slot: WorkerSlot): Promise<number> {
  const started = performance.now();
  slot.signal("SIGTERM");
  expect(await slot.exited(), slot.log).toEqual({ code: 0, signal: null });
  return performance.now() - started;
}

async function left(stage: TestStage): Promise<{ leases: number; connections: number; written: number }> {
  const { rows } = await stage.pool.query<{ leases: number; connections: number; written: number }>(`
    select (select count(*)::int from embedd.leases) as leases,
      (select count(*)::int from pg_stat_activity where application_name like 'embedd%') as connections,
      (select count(*)::int from notes where embedding is not null) as written`);
  return rows[0] ?? { leases: -1, connections: -1, written: -1 };
}

const firstVectors = (stage: TestStage) =>
  waitFor(async () => (await left(stage)).written > 0, { what: "the first vectors" });

describeFaults("a worker that is told to stop under load", () => {
  const stage = useStage(1, { ...LOAD, shutdownMs: NO_DEADLINE_MS });

  it("ends in time, writes the rows in flight and releases the others", async () => {
    const slot = await ready(stage.slots[0]);
    // A minute's work.
    await stage.write(30_000);
    await firstVectors(stage);
    const { written } = await left(stage);
    expect(await stop(slot)).toBeLessThan(BUSY_MS);
    // A backend goes a moment after its client.
    await waitFor(async () => (await left(stage)).connections === 0, { what: "closed connections" });
    const after = await left(stage);
    expect(after).toMatchObject({ leases: 0, connections: 0 });
    // Every batch that was in flight.
    expect(after.written).toBeGreaterThan(written);
    expect(after.written).toBeLessThan(30_000);
    expect((await stage.pool.query("select from audit")).rowCount).toBe(after.written);
  });
});

describeFaults("a worker that cannot finish what it does before its deadline", () => {
  const stage = useStage(1, { ...LOAD, shutdownMs: SHUTDOWN_MS });

  it("abandons it", async () => {
    const slot = await ready(stage.slots[0]);
    const unlock = await stage.lock(COMPLETION_LOCK);
    await stage.write(100);
    await stage.blocked("written as");
    expect(await stop(slot)).toBeLessThan(SHUTDOWN_MS + BUSY_MS);
    await unlock();
    // The server finishes the statement; the next worker can claim the other rows.
    await ready(slot);
    await stage.embedded();
    expect(await stage.check()).toMatchObject({ rows: 100, writes: 100 });
  });

  it.each(["silence", "refuse"] as const)("ends although the network is gone (%s)", async (how) => {
    const slot = await ready(stage.slots[0]);
    await stage.write(30_000);
    await firstVectors(stage);
    slot.proxy[how]();
    expect(await stop(slot)).toBeLessThan(SHUTDOWN_MS + BUSY_MS);
  });
});

describeFaults("embedd run, with the built-in model,", () => {
  const stage = useStage(1, { provider: "local", dimensions: 384, shutdownMs: NO_DEADLINE_MS });

  it("ends long before EMBEDD_SHUTDOWN_MS under load, and at once at a second signal", async () => {
    const slot = await ready(stage.slots[0]);
    // Minutes of work.
    await stage.pool.query(
      "insert into notes (body) select repeat('A sentence that takes a while to read. ', 12) || i from generate_series(1, 5000) i",
    );
    const inFlight = async () => (await left(stage)).leases > 0;
    await waitFor(inFlight, { what: "a batch in flight" });
    expect(await stop(slot)).toBeLessThan(BUSY_MS);
    expect(await inFlight(), slot.log).toBe(false);

    await stage.lock(COMPLETION_LOCK);
    await ready(slot);
    await stage.blocked("written as");
    slot.signal("SIGTERM");
    await waitFor(() => slot.log.includes('"stopping"'), { what: "it to say so" });
    // Without it, the lock would hold the worker up until its deadline, and then it would end with 0.
    slot.signal("SIGTERM");
    expect((await slot.exited()).code).toBe(1);
  }, 300_000);
});
