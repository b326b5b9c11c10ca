import { expect, it } from "vitest";
import { waitFor } from "../helpers/wait.js";
import { describeFaults, useStage } from "./use-stage.js";
import type { WorkerSlot } from "./workers.js";

const ROWS = 20;

describeFaults("a worker that is stopped for longer than its lease", () => {
  const stage = useStage(2);

  async function start(index: number): Promise<WorkerSlot> {
    const slot = stage.slots[index];
    if (slot === undefined) throw new Error("two workers");
    slot.start();
    await slot.waitUntilReady();
    return slot;
  }

  /** Stopped for longer than its lease, with all vectors ready to be written. */
  async function stopped(): Promise<WorkerSlot> {
    const zombie = await start(0);
    const held = zombie.hold("computed");
    await stage.write(ROWS);
    await held;
    zombie.signal("SIGSTOP");
    // Leases of an hour, of which this one is over: a busy machine's other worker does not lose its own.
    const { rowCount } = await stage.pool.query(
      "update embedd.leases set expires_at = now() - interval '1 s'",
    );
    expect(rowCount).toBe(1);
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
    await stage.embedded();
    expect(await heir.computed()).toBe(ROWS);
    await edit("id % 4 = 0");
    wake(zombie);
    await stage.embedded();
    await waitFor(async () => (await zombie.computed()) >= ROWS, { what: "the zombie" });
    // Its vectors are discarded, and it keeps working.
    await heir.kill();
    await stage.write(1);
    await stage.embedded();
    expect(await stage.check()).toMatchObject({ rows: ROWS + 1, writes: ROWS + ROWS / 4 + 1 });
  });

  it("writes vectors that still match their text, and re-embeds the other rows", async () => {
    const zombie = await stopped();
    await edit("id % 2 = 0");
    await stage.pool.query("delete from notes where id % 5 = 0");
    wake(zombie);
    await stage.embedded();
    const { rows } = await stage.check();
    expect(rows).toBe(ROWS - ROWS / 5);
    expect(await zombie.computed()).toBeGreaterThan(ROWS);
  });

  it("writes nothing when another worker has embedded its rows", async () => {
    const zombie = await stopped();
    const heir = await start(1);
    await stage.embedded();
    wake(zombie);
    await waitFor(async () => (await zombie.computed()) === ROWS, { what: "the zombie" });
    await stage.write(ROWS);
    await stage.embedded();
    expect(await stage.check()).toMatchObject({ rows: 2 * ROWS, writes: 2 * ROWS });
    expect(await heir.computed()).toBeGreaterThanOrEqual(ROWS);
  });

  it("does not block others when it sleeps with the gate", async () => {
    const zombie = await start(0);
    await stage.write(1);
    await stage.embedded();
    await start(1);
    zombie.signal("SIGSTOP");
    for (let i = 0; i < 5; i++) {
      await stage.write(1);
      await stage.embedded();
    }
    zombie.signal("SIGCONT");
    expect(await stage.check()).toMatchObject({ rows: 6, writes: 6 });
  });
});

describeFaults("several workers", () => {
  const stage = useStage(3, { latencyMs: 200, worker: { maxBatchRows: 50 } });

  it("compute no row twice, and share the work", async () => {
    for (const slot of stage.slots) slot.start();
    await Promise.all(stage.slots.map((slot) => slot.waitUntilReady()));
    const atWork = stage.slots.map((slot) => slot.hold("claimed"));
    for (let i = 0; i < 10; i++) await stage.write(300);
    // Each waits with rows of its own.
    await Promise.all(atWork);
    for (const slot of stage.slots) slot.release();
    await stage.embedded();
    expect(await stage.check()).toMatchObject({ rows: 3_000, writes: 3_000 });
    const computed = await Promise.all(stage.slots.map((slot) => slot.computed()));
    expect(computed.reduce((sum, n) => sum + n)).toBe(3_000);
    for (const n of computed) expect(n).toBeGreaterThan(150);
  });
});
