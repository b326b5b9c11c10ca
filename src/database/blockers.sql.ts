import type { Pool } from "pg";

/**
 * Describes what a server process waits for, such as transactions with a snapshot that CREATE INDEX CONCURRENTLY must
 * outlast; null: it does not wait. Since when they run is only known to a role that may see it.
 */
export async function readBlockers(pool: Pool, pid: number): Promise<string | null> {
  const { rows } = await pool.query<{ blockers: string | null }>(
    `
select string_agg(distinct coalesce(
    format('pid %s (role %s, database %s', a.pid, coalesce(a.usename, '?'), coalesce(a.datname, '?'))
      || coalesce(', in a transaction since ' || date_trunc('second', a.xact_start)::text, '') || ')',
    'a prepared transaction'), ', ') as blockers
from unnest(pg_blocking_pids($1)) as b (pid)
left join pg_stat_activity a on a.pid = b.pid`,
    [pid],
  );
  return rows[0]?.blockers ?? null;
}
