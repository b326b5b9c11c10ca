import type { ClientBase } from "pg";
import { GATE_CLASS, PRESENCE_CLASS } from "../../database/advisory-locks.js";

/** `sleeper`: refused because another worker sleeps with the gate, so writers do notify. */
export type GateAnswer = "granted" | "refused" | "sleeper";

/**
 * Asks for a pipeline's gate. To tell whether a sleeper or a writer is in the way, a query has to read pg_locks,
 * so `lookForSleeper` is for repeated refusals. If all connections share one session (embedded PostgreSQL), locks
 * say nothing and writers always notify.
 */
export async function tryGate(
  client: ClientBase,
  pipelineId: number,
  lookForSleeper: boolean,
): Promise<GateAnswer> {
  const sleeper = `exists (
    select from pg_locks
    where locktype = 'advisory' and classid = ${GATE_CLASS} and objid = $1 and objsubid = 2
      and mode = 'ExclusiveLock' and granted
      and database = (select oid from pg_database where datname = current_database()))`;
  const result = await client.query<{ answer: GateAnswer }>(
    `select case when current_setting('embedd.single_session', true) = 'on' then 'granted'
      when pg_try_advisory_lock(${GATE_CLASS}, $1::integer) then 'granted'
      ${lookForSleeper ? `when ${sleeper} then 'sleeper'` : ""} else 'refused' end as answer`,
    [pipelineId],
  );
  return result.rows[0]?.answer ?? "refused";
}

export async function releaseGate(client: ClientBase, pipelineId: number): Promise<void> {
  await client.query(
    `select pg_advisory_unlock(${GATE_CLASS}, $1::integer)
     where current_setting('embedd.single_session', true) is distinct from 'on'`,
    [pipelineId],
  );
}

/** Takes a new worker id and holds its lock until the connection ends. */
export async function announceWorker(client: ClientBase): Promise<number> {
  const result = await client.query<{ id: number; free: boolean }>(
    `select id, pg_try_advisory_lock(${PRESENCE_CLASS}, id) as free
     from (select nextval('embedd.worker_ids')::integer as id) as next`,
  );
  const row = result.rows[0];
  // After two billion starts the sequence starts over, and an id may still be in use.
  return row?.free === true ? row.id : announceWorker(client);
}
