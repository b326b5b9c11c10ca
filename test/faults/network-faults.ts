import { setTimeout as sleep } from "node:timers/promises";
import { anyone } from "./fault.js";
import type { Fault } from "./fault.js";
import { between } from "./random.js";

/** What happens between a worker and the server. */
export const NETWORK_FAULTS: readonly Fault[] = [
  {
    name: "cut one",
    weight: 10,
    run(context) {
      anyone(context).proxy.cut(context.random());
      return Promise.resolve();
    },
  },
  {
    name: "cut all",
    weight: 5,
    run(context) {
      anyone(context).proxy.cut();
      return Promise.resolve();
    },
  },
  {
    name: "stall",
    weight: 5,
    async run(context) {
      const { proxy } = anyone(context);
      proxy.stall(context.random() < 0.5 ? "both" : "from-server");
      await sleep(between(context.random, 10, 2 * context.leaseMs));
      if (context.random() < 0.3) proxy.cut();
      proxy.resume();
    },
  },
  {
    name: "refuse",
    weight: 3,
    async run(context) {
      const { proxy } = anyone(context);
      proxy.refuse();
      await sleep(between(context.random, 10, context.leaseMs));
      proxy.accept();
    },
  },
  {
    name: "half-open",
    weight: 2,
    async run(context) {
      const { proxy } = anyone(context);
      proxy.silence();
      await sleep(between(context.random, 10, 2 * context.leaseMs));
      // The worker is told only now and then; else it has to find out.
      proxy.closeSilent(context.random() < 0.7 ? "both" : "server");
    },
  },
];
