import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import type { Cluster } from "./cluster.js";
import { between, pick } from "./random.js";
import type { Random } from "./random.js";
import { CLAIM_LOCK, COMPLETION_LOCK } from "./schema.js";
import type { Phase, WorkerSlot } from "./workers.js";

export interface FaultContext {
  cluster: Cluster;
  slots: readonly WorkerSlot[];
  /** The harness' own connections. */
  pool: pg.Pool;
  random: Random;
  /** The longest lease; what lasts longer makes a zombie. */
  leaseMs: number;
}

interface Fault {
  name: string;
  weight: number;
  /** Alone, as everything else would be hit by it. */
  exclusive?: boolean;
  /** Does it and, unless it mends itself, undoes it. */
  run(context: FaultContext): Promise<void>;
}

/** Errors that are the database's and no row's: disk full, out of memory, timeouts, serialization, deadlock, shutdown. */
const CODES = ["53100", "53200", "57014", "55P03", "40001", "40P01", "57P01", "58030"];

/** The first worker is never killed, so that what faults leave in a process adds up. */
const mortal = ({ slots, random }: FaultContext): WorkerSlot =>
  pick(random, slots.slice(slots.length > 1 ? 1 : 0));
const anyone = ({ slots, random }: FaultContext): WorkerSlot => pick(random, slots);

const backends = "from pg_stat_activity where application_name like 'embedd%'";

async function terminate(context: FaultContext, condition: string): Promise<void> {
  const { rows } = await context.pool.query<{ pid: number }>(`select pid ${backends} and ${condition}`);
  if (rows.length === 0) return;
  await context.pool.query("select pg_terminate_backend($1)", [pick(context.random, rows).pid]);
}

/** Holds a lock that statements of the worker's run into, for as long as they may last or longer. */
async function holdLock({ pool, random }: FaultContext, lock: number): Promise<void> {
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

const terminateBy = (name: string, weight: number): Fault => ({
  name: `terminate ${name}`,
  weight,
  run: (context) => terminate(context, `application_name = 'embedd ${name}'`),
});

const killIn = (phase: Phase): Fault => ({
  name: `kill -9 ${phase}`,
  weight: 2,
  async run(context) {
    const slot = mortal(context);
    if (!slot.ready) return slot.kill();
    await Promise.race([slot.hold(phase), sleep(300)]);
    await slot.kill();
  },
});

export const FAULTS: readonly Fault[] = [
  {
    name: "kill -9",
    weight: 6,
    async run(context) {
      await mortal(context).kill();
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
      const slot = mortal(context);
      const held = holdLock(context, COMPLETION_LOCK);
      await sleep(between(context.random, 5, 100));
      await slot.kill();
      await held;
    },
  },
  {
    name: "SIGTERM",
    weight: 2,
    async run(context) {
      const slot = mortal(context);
      slot.signal("SIGTERM");
      if (slot.running) await Promise.race([slot.exited(), sleep(15_000, undefined, { ref: false })]);
    },
  },
  {
    name: "SIGSTOP",
    weight: 6,
    async run(context) {
      const slot = anyone(context);
      slot.signal("SIGSTOP");
      await sleep(between(context.random, 10, 2.5 * context.leaseMs));
      slot.signal("SIGCONT");
    },
  },
  terminateBy("worker", 14),
  terminateBy("presence", 8),
  terminateBy("listener", 8),
  { name: "terminate busy", weight: 6, run: (context) => terminate(context, "state <> 'idle'") },
  {
    name: "cancel",
    weight: 6,
    async run({ pool }) {
      await pool.query(`select pg_cancel_backend(pid) ${backends} and state = 'active'`);
    },
  },
  {
    name: "kill -9 a backend",
    weight: 1,
    exclusive: true,
    async run({ pool, random }) {
      const { rows } = await pool.query<{ pid: number }>(`select pid ${backends}`);
      // The server restarts itself.
      if (rows.length > 0) process.kill(pick(random, rows).pid, "SIGKILL");
    },
  },
  {
    name: "restart immediate",
    weight: 0.7,
    exclusive: true,
    async run({ cluster, random }) {
      await cluster.stop("immediate");
      await sleep(random() < 0.3 ? between(random, 0, 1_500) : 0);
      await cluster.start();
    },
  },
  {
    name: "restart fast",
    weight: 0.3,
    exclusive: true,
    async run({ cluster }) {
      await cluster.stop("fast");
      await cluster.start();
    },
  },
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
  {
    name: "injected error",
    weight: 12,
    async run({ pool, random }) {
      const code = pick(random, CODES);
      const relation = pick(random, ["notes", "notes", "leases", "failures"]);
      await pool.query("insert into injected values ($1, $2, $3)", [
        relation,
        code,
        pick(random, [0.02, 0.3, 1]),
      ]);
      await sleep(between(random, 10, 500));
      await pool.query("delete from injected where relation = $1 and code = $2", [relation, code]);
    },
  },
  { name: "slow completion", weight: 2, run: (context) => holdLock(context, COMPLETION_LOCK) },
  { name: "slow claim", weight: 2, run: (context) => holdLock(context, CLAIM_LOCK) },
  {
    name: "table locked",
    weight: 2,
    async run({ pool, random }) {
      const client = await pool.connect();
      try {
        await client.query("begin; set local lock_timeout = '200ms'");
        await client.query(
          `lock table ${pick(random, ["notes", "embedd.leases", "embedd.pipelines"])} in access exclusive mode`,
        );
        await sleep(between(random, 10, 1_000));
        await client.query("rollback");
      } finally {
        client.release(true);
      }
    },
  },
];

export function pickFault(random: Random): Fault {
  let left = random() * FAULTS.reduce((sum, { weight }) => sum + weight, 0);
  return FAULTS.find(({ weight }) => (left -= weight) < 0) ?? pick(random, FAULTS);
}

/** Undoes whatever faults may have left. */
export async function mend(
  { pool, slots }: FaultContext,
  { tellWorkers }: { tellWorkers: boolean },
): Promise<void> {
  for (const slot of slots) {
    slot.signal("SIGCONT");
    if (slot.ready) slot.release();
    slot.proxy.resume();
    slot.proxy.accept();
    slot.proxy.closeSilent(tellWorkers ? "both" : "server");
  }
  await pool.query("truncate injected");
}
