import type { ClientBase } from "pg";

/** Until the transaction ends. */
export async function limitLockWait(client: ClientBase, ms: number): Promise<void> {
  await client.query(`set local lock_timeout = ${ms}`);
}

/** Until the transaction ends. */
export async function limitStatement(client: ClientBase, ms: number): Promise<void> {
  await client.query(`set local statement_timeout = ${ms}`);
}

/** Keeps VACUUM and ANALYZE away; readers and writers do not wait. @param relation quoted, with its schema */
export async function lockAgainstMaintenance(client: ClientBase, relation: string): Promise<void> {
  await client.query(`lock table ${relation} in share update exclusive mode`);
}

/** @param relation quoted, with its schema */
export async function lockExclusively(client: ClientBase, relation: string): Promise<void> {
  await client.query(`lock table ${relation} in access exclusive mode`);
}

export async function setSavepoint(client: ClientBase): Promise<void> {
  await client.query("savepoint before_lock");
}

export async function returnToSavepoint(client: ClientBase): Promise<void> {
  await client.query("rollback to before_lock");
}

/**
 * Describes the sessions that hold a lock of a table; null: none does.
 * @param relation as SQL names it
 * @param writersForS only those that keep writers or builders of triggers out, and have been in their transaction so long
 */
export async function readHolders(
  client: ClientBase,
  relation: string,
  writersForS: number | null = null,
): Promise<string | null> {
  const { rows } = await client.query<{ holders: string | null }>(
    `
select string_agg(distinct format('pid %s (%s, role %s, in a transaction for %s s)', l.pid,
    coalesce(nullif(a.application_name, ''), a.backend_type),
    coalesce(a.usename, '?'),
    extract(epoch from now() - a.xact_start)::integer), ', ') as holders
from pg_locks l
join pg_stat_activity a on a.pid = l.pid
where l.relation = embedd.resolve($1)
  and l.database = (select oid from pg_database where datname = current_database())
  and l.granted
  and l.pid <> pg_backend_pid()
  and ($2::float8 is null
    or (l.mode not in ('AccessShareLock', 'RowShareLock') and now() - a.xact_start > $2 * interval '1 s'))`,
    [relation, writersForS],
  );
  return rows[0]?.holders ?? null;
}
