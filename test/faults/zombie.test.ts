import { expect, it } from "vitest";
import { waitFor } from "../helpers/wait.js";
import { describeFaults, useStage } from "./use-stage.js";
import type { WorkerSlot } from "./workers.js";

const LEASE_MS = 1_000;
const ROWS = 20;

describeFaults("a worker that is stopped for longer than its lease", () => {
  const stage = useStage(2, { worker: { leaseMs: LEASE_MS } });

  async function start(index: number): Promise<WorkerSlot> {
    const slot = stage.slots[index];
    if (slot === undefined) throw new Error("two workers");
    slot.start();
    await slot.waitUntilReady();
    return slot;
  }

  /** With all vectors ready to be written. */
  async function stopped(): Promise<WorkerSlot> {
    const zombie = await start(0);
    const held = zombie.hold("computed");
    await stage.write(ROWS);
    await held;
    zombie.signal("SIGSTOP");
    return zombie;
  }

  const edit = (which: string) =>
    stage.pool.query(`update notes set body = body || ' edited', version = version + 1 where ${which}`);

  function wake(zombie: WorkerSlot): void {
    zombie.signal("SIGCONT");
    zombie.release();
  }

  it("does not overwrite rows that were edited and embedded meanwhile", async () => {
    const zombie = await stopped();
    const heir = await start(1);
    await edit("id % 2 = 0");
    expect(await stage.embedded(10_000)).toBeLessThan(LEASE_MS + 8_000);
    expect(await heir.computed()).toBe(ROWS);
    await edit("id % 4 = 0");
    wake(zombie);
    await stage.embedded(5_000);
    await waitFor(async () => (await zombie.computed()) >= ROWS, { timeoutMs: 5_000, what: "the zombie" });
    // Its vectors are discarded, and it keeps working.
    await heir.kill();
    await stage.write(1);
    await stage.embedded(5_000);
    expect(await stage.check()).toMatchObject({ rows: ROWS + 1, writes: ROWS + ROWS / 4 + 1 });
  });

  it("writes vectors that still match their text, and re-embeds the other rows", async () => {
    const zombie = await stopped();
    await edit("id % 2 = 0");
    await stage.pool.query("delete from notes where id % 5 = 0");
    // Longer than its lease.
    await waitFor(
      async () =>
        (await stage.pool.query("select from embedd.leases where expires_at < now()")).rowCount === 1,
      { timeoutMs: 5_000, what: "the lease to expire" },
    );
    wake(zombie);
    await stage.embedded(5_000);
    const { rows } = await stage.check();
    expect(rows).toBe(ROWS - ROWS / 5);
    expect(await zombie.computed()).toBeGreaterThan(ROWS);
  });

  it("writes nothing when another worker has embedded its rows", async () => {
    const zombie = await stopped();
    const heir = await start(1);
    await stage.embedded(10_000);
    wake(zombie);
    await waitFor(async () => (await zombie.computed()) === ROWS, { timeoutMs: 5_000, what: "the zombie" });
    await stage.write(ROWS);
    await stage.embedded(5_000);
    expect(await stage.check()).toMatchObject({ rows: 2 * ROWS, writes: 2 * ROWS });
    expect(await heir.computed()).toBeGreaterThanOrEqual(ROWS);
  });

  it("does not block others when it sleeps with the gate", async () => {
    const zombie = await start(0);
    await stage.write(1);
    await stage.embedded(5_000);
    await start(1);
    zombie.signal("SIGSTOP");
    for (let i = 0; i < 5; i++) {
      await stage.write(1);
      expect(await stage.embedded(10_000)).toBeLessThan(8_000);
    }
    zombie.signal("SIGCONT");
    expect(await stage.check()).toMatchObject({ rows: 6, writes: 6 });
  });
});

describeFaults("several workers", () => {
  const stage = useStage(3, { latencyMs: 20, worker: { maxBatchRows: 50 } });

  it("compute no row twice, and share the work", async () => {
    for (const slot of stage.slots) slot.start();
    await Promise.all(stage.slots.map((slot) => slot.waitUntilReady()));
    for (let i = 0; i < 10; i++) await stage.write(300);
    await stage.embedded(30_000);
    expect(await stage.check()).toMatchObject({ rows: 3_000, writes: 3_000 });
    const computed = await Promise.all(stage.slots.map((slot) => slot.computed()));
    expect(computed.reduce((sum, n) => sum + n)).toBe(3_000);
    for (const n of computed) expect(n).toBeGreaterThan(300);
  });
});
