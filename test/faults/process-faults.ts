import { setTimeout as sleep } from "node:timers/promises";
import { holdLock, pickKillable, pickWorker } from "./fault.js";
import type { Fault } from "./fault.js";
import { between } from "./random.js";
import { COMPLETION_LOCK } from "./schema.js";
import type { Phase } from "./workers.js";

const killIn = (phase: Phase): Fault => ({
  name: `kill -9 ${phase}`,
  weight: 2,
  async run(context) {
    const slot = pickKillable(context);
    if (!slot.ready) return slot.kill();
    await Promise.race([slot.hold(phase), sleep(300)]);
    await slot.kill();
  },
});

/** Faults of a worker's process. */
export const PROCESS_FAULTS: readonly Fault[] = [
  {
    name: "kill -9",
    weight: 6,
    async run(context) {
      await pickKillable(context).kill();
    },
  },
  killIn("claimed"),
  killIn("tokenizing"),
  killIn("inferring"),
  killIn("computed"),
  {
    name: "kill -9 completing",
    weight: 2,
    async run(context) {
      const slot = pickKillable(context);
      // The server may be down; then there is no lock to hold.
      const held = holdLock(context, COMPLETION_LOCK).catch(() => undefined);
      await sleep(between(context.random, 5, 100));
      await slot.kill();
      await held;
    },
  },
  {
    name: "SIGTERM",
    weight: 2,
    async run(context) {
      const slot = pickKillable(context);
      slot.signal("SIGTERM");
      if (slot.running) await Promise.race([slot.exited(), sleep(15_000, undefined, { ref: false })]);
    },
  },
  {
    name: "SIGSTOP",
    weight: 6,
    async run(context) {
      const slot = pickWorker(context);
      slot.signal("SIGSTOP");
      await sleep(between(context.random, 10, 2.5 * context.leaseMs));
      slot.signal("SIGCONT");
    },
  },
];
