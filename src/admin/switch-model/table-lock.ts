import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { ClientBase } from "pg";
import { EmbeddError } from "../../errors.js";

/** While this waits for its lock, everybody who comes after it waits as well. */
const WAIT_MS = 200;
/** Between two tries, on average; with jitter, so as not to meet the same job each time. */
const PAUSE_MS = 500;
const ATTEMPTS = 60;
/** What holds the lock is cut off after this. */
const WORK_MS = 5_000;

/** lock_not_available, query_canceled (a partition's lock too many) */
const NOT_YET = new Set(["55P03", "57014"]);

/**
 * Runs `work` in one transaction under an ACCESS EXCLUSIVE lock of a table, without making others wait for
 * longer than a moment: the lock is tried for 200 ms at a time.
 * @param relation quoted, with its schema
 * @returns what `work` returned, and for how many milliseconds the lock was held
 * @throws EmbeddError with code `locked` that names who holds the table, after about half a minute
 */
export async function withTableLock<T>(
  client: ClientBase,
  relation: string,
  work: () => Promise<T>,
): Promise<{ result: T; lockedMs: number }> {
  await client.query("begin");
  try {
    await keepMaintenanceAway(client, relation);
    await lockExclusively(client, relation);
    const started = performance.now();
    await client.query(`set local statement_timeout = ${WORK_MS}`);
    const result = await work();
    await client.query("commit");
    return { result, lockedMs: performance.now() - started };
  } catch (error) {
    await client.query("rollback");
    throw error;
  }
}

/**
 * An autovacuum only gives way to who has waited a second (deadlock_timeout), too long for a lock that
 * readers and writers queue behind. Behind this one they don't.
 */
async function keepMaintenanceAway(client: ClientBase, relation: string): Promise<void> {
  await client.query("set local lock_timeout = '10s'");
  try {
    await client.query(`lock table ${relation} in share update exclusive mode`);
  } catch (error) {
    if (!isNotYet(error)) throw error;
    await client.query("rollback; begin");
    throw await lockedError(client, relation, error);
  }
}

async function lockExclusively(client: ClientBase, relation: string): Promise<void> {
  await client.query(`set local lock_timeout = ${WAIT_MS}; set local statement_timeout = ${2 * WAIT_MS}`);
  for (let attempt = 1; ; attempt++) {
    try {
      await client.query("savepoint before_lock");
      await client.query(`lock table ${relation} in access exclusive mode`);
      return;
    } catch (error) {
      if (!isNotYet(error)) throw error;
      await client.query("rollback to before_lock");
      if (attempt === ATTEMPTS) throw await lockedError(client, relation, error);
    }
    await sleep(PAUSE_MS * (0.5 + Math.random()));
  }
}

const isNotYet = (error: unknown): boolean =>
  error instanceof pg.DatabaseError && NOT_YET.has(error.code ?? "");

async function lockedError(client: ClientBase, relation: string, cause: unknown): Promise<EmbeddError> {
  const { rows } = await client.query<{ holders: string | null }>(
    `select string_agg(distinct format('pid %s (%s, its transaction %s s old)', l.pid,
       coalesce(nullif(a.application_name, ''), a.backend_type), extract(epoch from now() - a.xact_start)::integer), ', ') as holders
     from pg_locks l join pg_stat_activity a on a.pid = l.pid
     where l.relation = $1::regclass and l.granted and l.pid <> pg_backend_pid()`,
    [relation],
  );
  return new EmbeddError(`${relation} could not be locked; held by ${rows[0]?.holders ?? "nobody now"}`, {
    kind: "database",
    code: "locked",
    hint: "run it again when they are done; it goes on where it was",
    cause,
  });
}
