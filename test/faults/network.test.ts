import { expect, it } from "vitest";
import { CLAIM_LOCK, COMPLETION_LOCK } from "./schema.js";
import { describeFaults, letTimePass, useStage } from "./use-stage.js";
import type { WorkerSlot } from "./workers.js";

/**
 * The defaults: within 20 s another worker has a silent worker's rows, and the silent worker has reconnected. Nothing
 * else would find them before an hour is over.
 */
const DETECTING = { leaseMs: 15_000, listenerProofMs: 15_000 };
const ROWS = 20;

describeFaults("a worker whose network", () => {
  const stage = useStage(2, { worker: DETECTING });

  async function start(index: number): Promise<WorkerSlot> {
    const slot = stage.slots[index];
    if (slot === undefined) throw new Error("two workers");
    slot.start();
    await slot.waitUntilReady();
    return slot;
  }

  it("is cut, and refuses connections for a while", async () => {
    const slot = await start(0);
    const held = slot.hold("inferring");
    await stage.write(ROWS);
    await held;
    slot.proxy.refuse();
    slot.release();
    await letTimePass(1_000);
    slot.proxy.accept();
    await stage.embedded();
    expect(slot.ready).toBe(true);
    expect(await stage.check()).toMatchObject({ rows: ROWS, writes: ROWS });
  });

  it.each(["both", "from-server"] as const)(
    "stalls (%s) in a completion, then recovers",
    async (direction) => {
      const slot = await start(0);
      const unlock = await stage.lock(COMPLETION_LOCK);
      await stage.write(ROWS);
      await stage.blocked("written as");
      slot.proxy.stall(direction);
      await unlock();
      await letTimePass(2_000);
      slot.proxy.resume();
      await stage.embedded();
      expect(await stage.check()).toMatchObject({ rows: ROWS, writes: ROWS });
      expect(await slot.computed()).toBe(ROWS);
    },
  );

  it("falls silent while it embeds: another worker embeds its rows", async () => {
    const victim = await start(0);
    const held = victim.hold("inferring");
    await stage.write(ROWS);
    await held;
    const heir = await start(1);
    victim.proxy.silence();
    victim.proxy.refuse();
    await stage.embedded();
    expect(await heir.computed()).toBe(ROWS);
    victim.release();
    victim.proxy.accept();
    expect(await stage.check()).toMatchObject({ rows: ROWS, writes: ROWS });
  });

  it("falls silent in the middle of a claim: another worker waits no longer than that", async () => {
    const victim = await start(0);
    const unlock = await stage.lock(CLAIM_LOCK);
    await stage.write(ROWS);
    await stage.blocked("lease as");
    await start(1);
    victim.proxy.silence();
    victim.proxy.refuse();
    await unlock();
    await stage.embedded();
    expect(await stage.check()).toMatchObject({ rows: ROWS, writes: ROWS });
  });

  it.each([
    ["while it sleeps", null, ""],
    ["in a claim", CLAIM_LOCK, "lease as"],
    ["in a completion", COMPLETION_LOCK, "written as"],
  ])("falls silent %s, with no other worker: it detects this and recovers", async (_, lock, words) => {
    const slot = await start(0);
    await stage.write(1);
    await stage.embedded();
    const unlock = lock === null ? undefined : await stage.lock(lock);
    if (lock !== null) {
      await stage.write(ROWS - 1);
      await stage.blocked(words);
    }
    slot.proxy.silence();
    if (lock === null) await stage.write(ROWS - 1);
    await unlock?.();
    await stage.embedded();
    expect(slot.ready).toBe(true);
    await stage.write(1);
    await stage.embedded();
    expect(await stage.check()).toMatchObject({ rows: ROWS + 1, writes: ROWS + 1 });
  });
});
