import type { ClientBase } from "pg";

/** Some are unknown to PostgreSQL 15. */
const TIME_LIMITS = [
  "statement_timeout",
  "lock_timeout",
  "transaction_timeout",
  "idle_in_transaction_session_timeout",
  "idle_session_timeout",
];

/** The limits that the session has now; 0 is none. In milliseconds. */
export async function readTimeLimits(client: ClientBase): Promise<Record<string, string>> {
  const { rows } = await client.query<{ name: string; setting: string }>(
    "select name, setting from pg_settings where name = any ($1)",
    [TIME_LIMITS],
  );
  return Object.fromEntries(rows.map(({ name, setting }) => [name, setting]));
}

/** If all connections share one session (embedded PostgreSQL), other programs use it too, so it stays as it is. */
const SET_LIMIT = `
select set_config($1, $2, false)
where current_setting('embedd.single_session', true) is distinct from 'on'`;

/**
 * Runs `work` without the time limits of the connection's role, and puts them back. Such limits are meant for
 * requests: they would cancel a long index build, and end a session that waits for a worker. Where work waits for a
 * lock, it sets its own limit. Memory settings such as maintenance_work_mem stay the role's own.
 * @param client outside a transaction
 */
export async function withoutTimeLimits<T>(client: ClientBase, work: () => Promise<T>): Promise<T> {
  const limits = Object.entries(await readTimeLimits(client)).filter(([, setting]) => setting !== "0");
  for (const [name] of limits) await client.query(SET_LIMIT, [name, "0"]);
  try {
    return await work();
  } finally {
    // After the end of the connection nothing is left to put back.
    for (const limit of limits) await client.query(SET_LIMIT, limit).catch(() => undefined);
  }
}
