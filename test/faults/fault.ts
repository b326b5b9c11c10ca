import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import type { Cluster } from "./cluster.js";
import { between, pick } from "./random.js";
import type { Random } from "./random.js";
import type { WorkerSlot } from "./workers.js";

export interface FaultContext {
  cluster: Cluster;
  slots: readonly WorkerSlot[];
  /** The harness's connections. */
  pool: pg.Pool;
  random: Random;
  /** Duration of a lease; a worker frozen for longer becomes a zombie. */
  leaseMs: number;
}

export interface Fault {
  name: string;
  weight: number;
  /** Runs alone, because it affects every worker and fault. */
  exclusive?: boolean;
  /** Injects the fault and undoes it, unless the system recovers on its own. */
  run(context: FaultContext): Promise<void>;
}

/** Picks a worker to kill. The first is never killed, so that leaks in a long-lived process accumulate. */
export const pickKillable = ({ slots, random }: FaultContext): WorkerSlot =>
  pick(random, slots.slice(slots.length > 1 ? 1 : 0));
/** Picks any worker. */
export const pickWorker = ({ slots, random }: FaultContext): WorkerSlot => pick(random, slots);

/** Holds a lock that blocks workers' statements, sometimes beyond their timeout. */
export async function holdLock({ pool, random }: FaultContext, lock: number): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query("begin");
    await client.query("select pg_advisory_xact_lock($1)", [lock]);
    await sleep(between(random, 10, 1_500));
    await client.query("rollback");
  } finally {
    client.release(true);
  }
}
