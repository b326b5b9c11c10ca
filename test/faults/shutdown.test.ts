import { expect, it } from "vitest";
import { waitFor } from "../helpers/wait.js";
import { COMPLETION_LOCK } from "./schema.js";
import { describeFaults, useStage } from "./use-stage.js";
import type { WorkerSlot } from "./workers.js";

const SHUTDOWN_MS = 2_000;
/** A stop waits for a running inference, which takes a while on a busy machine. */
const BUSY_MS = 10_000;

async function ready(slot: WorkerSlot | undefined): Promise<WorkerSlot> {
  if (slot === undefined) throw new Error("one worker");
  slot.start();
  await slot.waitUntilReady();
  return slot;
}

describeFaults("a worker that is told to stop under load", () => {
  const stage = useStage(1, { latencyMs: 300, shutdownMs: SHUTDOWN_MS, worker: { maxBatchRows: 50 } });

  async function left(): Promise<{ leases: number; connections: number; written: number }> {
    const { rows } = await stage.pool.query<{ leases: number; connections: number; written: number }>(`
      select (select count(*)::int from embedd.leases) as leases,
        (select count(*)::int from pg_stat_activity where application_name like 'embedd%') as connections,
        (select count(*)::int from notes where embedding is not null) as written`);
    return rows[0] ?? { leases: -1, connections: -1, written: -1 };
  }

  /** A backend goes a moment after its client. */
  async function leftAfterExit(): ReturnType<typeof left> {
    await waitFor(async () => (await left()).connections === 0, {
      timeoutMs: 5_000,
      what: "closed connections",
    });
    return left();
  }

  async function stop(slot: WorkerSlot): Promise<number> {
    const started = performance.now();
    slot.signal("SIGTERM");
    expect(await slot.exited()).toEqual({ code: 0, signal: null });
    return performance.now() - started;
  }

  it("ends in time, writes the rows in flight and releases the others", async () => {
    const slot = await ready(stage.slots[0]);
    await stage.write(2_000);
    await waitFor(async () => (await left()).written > 0, { timeoutMs: 10_000, what: "the first vectors" });
    const { written } = await left();
    expect(await stop(slot)).toBeLessThan(SHUTDOWN_MS);
    const after = await leftAfterExit();
    expect(after).toMatchObject({ leases: 0, connections: 0 });
    // Every batch that was in flight.
    expect(after.written).toBeGreaterThan(written);
    expect(after.written).toBeLessThan(2_000);
    expect((await stage.pool.query("select from audit")).rowCount).toBe(after.written);
  });

  it("abandons at its deadline what takes longer", async () => {
    const slot = await ready(stage.slots[0]);
    const unlock = await stage.lock(COMPLETION_LOCK);
    await stage.write(100);
    await stage.blocked("written as");
    expect(await stop(slot)).toBeLessThan(SHUTDOWN_MS + 5_000);
    await unlock();
    // The server finishes the statement; the next worker can claim the other rows.
    await ready(slot);
    await stage.embedded(5_000);
    expect(await stage.check()).toMatchObject({ rows: 100, writes: 100 });
  });

  it.each(["silence", "refuse"] as const)("ends although the network is gone (%s)", async (how) => {
    const slot = await ready(stage.slots[0]);
    await stage.write(2_000);
    await waitFor(async () => (await left()).written > 0, { timeoutMs: 10_000, what: "the first vectors" });
    slot.proxy[how]();
    expect(await stop(slot)).toBeLessThan(SHUTDOWN_MS + 5_000);
  });
});

describeFaults("embedd run, with the built-in model,", () => {
  const stage = useStage(1, { provider: "local", dimensions: 384, shutdownMs: SHUTDOWN_MS });

  it("ends within EMBEDD_SHUTDOWN_MS under load, and at once at a second signal", async () => {
    const slot = await ready(stage.slots[0]);
    await stage.pool.query(
      "insert into notes (body) select repeat('A sentence that takes a while to read. ', 12) || i from generate_series(1, 2000) i",
    );
    const inFlight = async () => ((await stage.pool.query("select from embedd.leases")).rowCount ?? 0) > 0;
    await waitFor(inFlight, { timeoutMs: 10_000, what: "a batch in flight" });
    const started = performance.now();
    slot.signal("SIGTERM");
    const ended = await slot.exited();
    expect(ended, slot.log).toEqual({ code: 0, signal: null });
    expect(performance.now() - started).toBeLessThan(SHUTDOWN_MS + BUSY_MS);
    expect(await inFlight(), slot.log).toBe(false);

    await ready(slot);
    await waitFor(inFlight, { timeoutMs: 10_000, what: "a batch in flight" });
    slot.signal("SIGTERM");
    await waitFor(() => slot.log.includes('"stopping"'), { timeoutMs: 5_000, what: "it to say so" });
    const forced = performance.now();
    slot.signal("SIGTERM");
    expect((await slot.exited()).code).toBe(1);
    expect(performance.now() - forced).toBeLessThan(BUSY_MS);
  });
});
