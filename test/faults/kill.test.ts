import { expect, it } from "vitest";
import { waitFor } from "../helpers/wait.js";
import { CLAIM_LOCK, COMPLETION_LOCK } from "./schema.js";
import { describeFaults, useStage } from "./use-stage.js";
import type { Phase, WorkerSlot } from "./workers.js";

const ROWS = 20;

describeFaults("a worker that is killed with kill -9", () => {
  const stage = useStage(2);

  function workers(): [WorkerSlot, WorkerSlot] {
    const [victim, heir] = stage.slots;
    if (victim === undefined || heir === undefined) throw new Error("two workers");
    return [victim, heir];
  }

  async function start(...slots: WorkerSlot[]): Promise<void> {
    for (const slot of slots) slot.start();
    await Promise.all(slots.map((slot) => slot.waitUntilReady()));
  }

  /** The dead worker's lease lasts for an hour. */
  async function expectRecovery(): Promise<void> {
    await stage.embedded();
    expect(await stage.check()).toMatchObject({ rows: ROWS, writes: ROWS });
  }

  it.each<[string, Phase]>([
    ["after its claim", "claimed"],
    ["during tokenizing", "tokenizing"],
    ["during inference", "inferring"],
    ["before its completion", "computed"],
  ])("%s: another worker takes over", async (_, phase) => {
    const [victim, heir] = workers();
    await start(victim);
    const held = victim.hold(phase);
    await stage.write(ROWS);
    await held;
    await start(heir);
    await victim.kill();
    await expectRecovery();
  });

  it("during its claim", async () => {
    const [victim, heir] = workers();
    await start(victim, heir);
    heir.signal("SIGSTOP");
    const unlock = await stage.lock(CLAIM_LOCK);
    await stage.write(ROWS);
    await stage.blocked("lease as");
    heir.signal("SIGCONT");
    await victim.kill();
    await unlock();
    await expectRecovery();
  });

  it("during its completion, which the server finishes", async () => {
    const [victim, heir] = workers();
    await start(victim);
    const unlock = await stage.lock(COMPLETION_LOCK);
    await stage.write(ROWS);
    await stage.blocked("written as");
    await start(heir);
    await victim.kill();
    // It delays no other row, and no worker recomputes what is being written.
    await stage.write(1);
    await waitFor(async () => (await heir.computed()) === 1, { what: "the heir" });
    await unlock();
    await stage.embedded();
    expect(await stage.check()).toMatchObject({ rows: ROWS + 1, writes: ROWS + 1 });
    expect(await heir.computed()).toBe(1);
  });

  it("during its completion, which is rolled back", async () => {
    const [victim, heir] = workers();
    await start(victim);
    const unlock = await stage.lock(COMPLETION_LOCK);
    await stage.write(ROWS);
    const pid = await stage.blocked("written as");
    await start(heir);
    await victim.kill();
    await stage.pool.query("select pg_terminate_backend($1)", [pid]);
    await unlock();
    await expectRecovery();
  });

  it("after its completion, before it hears of it", async () => {
    const [victim, heir] = workers();
    await start(victim);
    const unlock = await stage.lock(COMPLETION_LOCK);
    await stage.write(ROWS);
    await stage.blocked("written as");
    victim.proxy.stall("from-server");
    await unlock();
    await stage.embedded();
    await victim.kill();
    await start(heir);
    expect(await stage.check()).toMatchObject({ rows: ROWS, writes: ROWS });
    expect(await heir.computed()).toBe(0);
  });

  it("asleep, while another worker sleeps too", async () => {
    const [victim, heir] = workers();
    await start(victim);
    await stage.write(1);
    await stage.embedded();
    await start(heir);
    await victim.kill();
    await stage.write(ROWS - 1);
    await expectRecovery();
  });

  it("in start-up, at any moment", async () => {
    const [victim, heir] = workers();
    await stage.write(ROWS);
    for (const connections of [1, 2, 3, 4]) {
      victim.start();
      await waitFor(
        async () => {
          const { rowCount } = await stage.pool.query(
            "select from pg_stat_activity where application_name like 'embedd%'",
          );
          return (rowCount ?? 0) >= connections || victim.ready;
        },
        { what: `${connections} connections`, intervalMs: 1 },
      );
      await victim.kill();
    }
    await start(heir);
    await stage.embedded();
    expect(await stage.check()).toMatchObject({ rows: ROWS, writes: ROWS });
  });

  it("with no other worker, and is restarted", async () => {
    const [victim] = workers();
    await start(victim);
    const held = victim.hold("inferring");
    await stage.write(ROWS);
    await held;
    await victim.kill();
    victim.start();
    await expectRecovery();
  });
});
