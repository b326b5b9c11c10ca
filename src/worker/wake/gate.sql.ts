import type { ClientBase } from "pg";
import { GATE_CLASS } from "../../database/advisory-locks.js";

/** `sleeper`: refused because another worker sleeps with the gate, so writers do notify. */
export type GateAnswer = "granted" | "refused" | "sleeper";

/**
 * Asks for a pipeline's gate. To tell whether a sleeper or a writer is in the way, a query has to read pg_locks,
 * so `lookForSleeper` is for repeated refusals. A stranger with the gate counts as a sleeper: writers notify then too.
 * If all connections share one session (embedded PostgreSQL), locks say nothing and writers always notify.
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

/** A session or prepared transaction (no pid) that holds a pipeline's gate. */
export interface GateHolder {
  pid: number | null;
  role: string | null;
}

export async function gateHolders(client: ClientBase, pipelineId: number): Promise<GateHolder[]> {
  const { rows } = await client.query<GateHolder>(
    `
select l.pid, r.rolname as role
from embedd.advisory_locks l
left join pg_roles r on r.oid = l.role
where l.class = 'gate' and l.id = $1 and l.granted and l.pid is distinct from pg_backend_pid()
order by l.pid
limit 5`,
    [pipelineId],
  );
  return rows;
}
