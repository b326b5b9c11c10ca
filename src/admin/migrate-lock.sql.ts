import { setTimeout } from "node:timers/promises";
import type { ClientBase } from "pg";

/** 'embs', so that a second migration waits for the first. */
const MIGRATE_LOCK = 0x656d6273;
const POLL_MS = 200;

/**
 * Waits until no other session migrates this database, and keeps the lock until the session ends. Any role that can
 * connect can take the lock, so one that may not create a schema is not waited for. Two migrations at once are safe
 * without the lock too (see `runUntilNobodyElseDoes`).
 */
export async function takeMigrateLock(client: ClientBase): Promise<void> {
  for (;;) {
    const { rows } = await client.query<{ mine: boolean; others: boolean }>(
      `
select pg_try_advisory_lock($1::bigint) as mine,
  exists (
    select from pg_locks l
    join pg_stat_activity a on a.pid = l.pid
    where l.locktype = 'advisory'
      and l.classid = 0
      and l.objid = $1::bigint::oid
      and l.objsubid = 1
      and l.granted
      and l.pid <> pg_backend_pid()
      and l.database = (select oid from pg_database where datname = current_database())
      and has_database_privilege(a.usesysid, l.database, 'CREATE')) as others`,
      [MIGRATE_LOCK],
    );
    if (rows[0]?.mine === true || rows[0]?.others === false) return;
    await setTimeout(POLL_MS);
  }
}
