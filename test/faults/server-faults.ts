import { setTimeout as sleep } from "node:timers/promises";
import { holdLock } from "./fault.js";
import type { Fault, FaultContext } from "./fault.js";
import { between, pick } from "./random.js";
import { CLAIM_LOCK, COMPLETION_LOCK } from "./schema.js";

/** Errors of the database, not of a row: disk full, out of memory, timeouts, serialization, deadlock, shutdown, I/O. */
const CODES = ["53100", "53200", "57014", "55P03", "40001", "40P01", "57P01", "58030"];

const backends = "from pg_stat_activity where application_name like 'embedd%'";

async function terminate(context: FaultContext, condition: string): Promise<void> {
  const { rows } = await context.pool.query<{ pid: number }>(`select pid ${backends} and ${condition}`);
  if (rows.length === 0) return;
  await context.pool.query("select pg_terminate_backend($1)", [pick(context.random, rows).pid]);
}

const terminateBy = (name: string, weight: number): Fault => ({
  name: `terminate ${name}`,
  weight,
  run: (context) => terminate(context, `application_name = 'embedd ${name}'`),
});

/** Faults of the server, its connections and its statements. */
export const SERVER_FAULTS: readonly Fault[] = [
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
