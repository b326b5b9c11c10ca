import { setTimeout as sleep } from "node:timers/promises";
import { pickWorker } from "./fault.js";
import type { Fault } from "./fault.js";
import { between } from "./random.js";

/** Faults of the network between a worker and the server. */
export const NETWORK_FAULTS: readonly Fault[] = [
  {
    name: "cut one",
    weight: 10,
    run(context) {
      pickWorker(context).proxy.cut(context.random());
      return Promise.resolve();
    },
  },
  {
    name: "cut all",
    weight: 5,
    run(context) {
      pickWorker(context).proxy.cut();
      return Promise.resolve();
    },
  },
  {
    name: "stall",
    weight: 5,
    async run(context) {
      const { proxy } = pickWorker(context);
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
      const { proxy } = pickWorker(context);
      proxy.refuse();
      await sleep(between(context.random, 10, context.leaseMs));
      proxy.accept();
    },
  },
  {
    name: "half-open",
    weight: 2,
    async run(context) {
      const { proxy } = pickWorker(context);
      proxy.silence();
      await sleep(between(context.random, 10, 2 * context.leaseMs));
      // Sometimes the worker is not notified and must detect the loss itself.
      proxy.closeSilent(context.random() < 0.7 ? "both" : "server");
    },
  },
];
