import { expect, it } from "vitest";
import { waitFor } from "../helpers/wait.js";
import { CLAIM_LOCK, COMPLETION_LOCK, WORKER_ROLE } from "./schema.js";
import { describeFaults, useStage } from "./use-stage.js";
import type { WorkerSlot } from "./workers.js";

const ROWS = 20;

describeFaults("a worker whose server", () => {
  const stage = useStage(1);

  async function start(): Promise<WorkerSlot> {
    const [slot] = stage.slots;
    if (slot === undefined) throw new Error("one worker");
    slot.start();
    await slot.waitUntilReady();
    return slot;
  }

  /** It continues in the same process. */
  async function expectWhole(slot: WorkerSlot, rows = ROWS): Promise<void> {
    expect(slot.ready).toBe(true);
    await stage.write(1);
    await stage.embedded();
    expect(await stage.check()).toMatchObject({ rows: rows + 1, writes: rows + 1 });
  }

  it.each(["immediate", "fast"] as const)("is stopped (%s) while it sleeps", async (mode) => {
    const slot = await start();
    await stage.write(ROWS);
    await stage.embedded();
    await stage.cluster.stop(mode);
    await stage.cluster.start();
    await stage.write(1);
    await stage.embedded();
    await expectWhole(slot, ROWS + 1);
  });

  it("crashes while it embeds", async () => {
    const slot = await start();
    const held = slot.hold("inferring");
    await stage.write(ROWS);
    await held;
    await stage.cluster.stop("immediate");
    await stage.cluster.start();
    slot.release();
    await stage.embedded();
    await expectWhole(slot);
  });

  it.each([
    ["claim", CLAIM_LOCK, "lease as"],
    ["completion", COMPLETION_LOCK, "written as"],
  ])("crashes during a %s", async (_, lock, words) => {
    const slot = await start();
    await stage.lock(lock);
    await stage.write(ROWS);
    await stage.blocked(words);
    await stage.cluster.stop("immediate");
    await stage.cluster.start();
    await stage.embedded();
    await expectWhole(slot);
  });

  it.each([
    ["claim", CLAIM_LOCK, "lease as"],
    ["completion", COMPLETION_LOCK, "written as"],
  ])("terminates the connection of a %s", async (_, lock, words) => {
    const slot = await start();
    const unlock = await stage.lock(lock);
    await stage.write(ROWS);
    const pid = await stage.blocked(words);
    await stage.pool.query("select pg_terminate_backend($1)", [pid]);
    await unlock();
    await stage.embedded();
    await expectWhole(slot);
  });

  it.each(["worker", "presence", "listener"])("terminates its %s connections repeatedly", async (name) => {
    const slot = await start();
    for (let i = 0; i < 5; i++) {
      await waitFor(
        async () => {
          const { rowCount } = await stage.pool.query(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1",
            [`embedd ${name}`],
          );
          return rowCount !== 0;
        },
        { what: `the ${name} connection` },
      );
      await stage.write(ROWS / 5);
      await stage.embedded();
    }
    await expectWhole(slot);
  });

  it.each([
    ["notes", "53100", "a full disk"],
    ["notes", "57014", "a statement timeout"],
    ["notes", "55P03", "a lock timeout"],
    ["notes", "40001", "a failed serialization"],
    ["leases", "53100", "a full disk for leases"],
    ["leases", "40P01", "a deadlock"],
  ])("answers for %s with %s, %s: no row is charged", async (relation, code) => {
    const slot = await start();
    await stage.pool.query("insert into injected values ($1, $2, 1)", [relation, code]);
    await stage.write(ROWS);
    await waitFor(() => slot.log.split(`"code":"${code}"`).length > 3, {
      what: "it to be refused three times",
    });
    expect((await stage.pool.query("select from embedd.failures")).rowCount).toBe(0);
    await stage.pool.query("truncate injected");
    await stage.embedded();
    await expectWhole(slot);
  });

  it("has short timeouts, and locks that outlast them: no row is charged", async () => {
    await stage.pool.query(
      `alter role ${WORKER_ROLE} set statement_timeout = '5s'; alter role ${WORKER_ROLE} set lock_timeout = '1s'`,
    );
    try {
      const slot = await start();
      const unlock = await stage.lock(COMPLETION_LOCK);
      await stage.write(ROWS);
      await waitFor(() => slot.log.includes('"code":"55P03"'), { what: "a lock timeout" });
      await stage.pool.query("select from embedd.failures").then(({ rowCount }) => {
        expect(rowCount).toBe(0);
      });
      await unlock();
      await stage.embedded();
      await expectWhole(slot);
    } finally {
      await stage.pool.query(`alter role ${WORKER_ROLE} reset all`);
    }
  });
});
