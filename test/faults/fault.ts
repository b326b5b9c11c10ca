import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import type { Cluster } from "./cluster.js";
import { between, pick } from "./random.js";
import type { Random } from "./random.js";
import type { WorkerSlot } from "./workers.js";

export interface FaultContext {
  cluster: Cluster;
  slots: readonly WorkerSlot[];
  /** The harness' own connections. */
  pool: pg.Pool;
  random: Random;
  /** The longest lease; what lasts longer makes a zombie. */
  leaseMs: number;
}

export interface Fault {
  name: string;
  weight: number;
  /** Alone, as everything else would be hit by it. */
  exclusive?: boolean;
  /** Does it and, unless it mends itself, undoes it. */
  run(context: FaultContext): Promise<void>;
}

/** The first worker is never killed, so that what faults leave in a process adds up. */
export const mortal = ({ slots, random }: FaultContext): WorkerSlot =>
  pick(random, slots.slice(slots.length > 1 ? 1 : 0));
export const anyone = ({ slots, random }: FaultContext): WorkerSlot => pick(random, slots);

/** Holds a lock that statements of the worker's run into, for as long as they may last or longer. */
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
