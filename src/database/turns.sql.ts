import type { ClientBase, Pool } from "pg";
import type { Pipeline } from "./pipeline.js";

/** What only one session at a time works on: a pipeline's index, or its switch to another model. */
export type Job = "index" | "switch";

/**
 * Waits until no other transaction has the turn, and keeps it until the transaction ends. The statement after this one
 * sees everything that the transactions before this one committed. Only roles that may work for embedd can hold a
 * turn, so no stranger delays it.
 * @param pipelineId 0 for a turn of the whole database
 * @throws DatabaseError 55P03 after 5 s
 */
export async function takeTurn(
  client: ClientBase,
  pipelineId: number,
  name: "claim" | "usage",
): Promise<void> {
  await client.query("select embedd.take_turn($1, $2)", [pipelineId, name]);
}

/** Takes the turn to claim rows of a pipeline, as `takeTurn` does, and then checks the table, as `checkSameTable` does. */
export async function takeClaimTurn(client: ClientBase, pipeline: Pipeline): Promise<void> {
  const { id, relation, relationOid, ownerOid } = pipeline;
  await client.query("select embedd.take_turn($1, 'claim'), embedd.check_same_table($2, $3, $4)", [
    id,
    relation,
    relationOid,
    ownerOid,
  ]);
}

/** Gives the session a job until `endJob` or the end of the session; false: another session has it. */
export async function takeJob(client: ClientBase, pipelineId: number, job: Job): Promise<boolean> {
  const { rows } = await client.query<{ taken: boolean }>("select embedd.take_job($1, $2) as taken", [
    pipelineId,
    job,
  ]);
  return rows[0]?.taken === true;
}

export async function endJob(client: ClientBase, pipelineId: number, job: Job): Promise<void> {
  await client.query("select embedd.end_job($1, $2)", [pipelineId, job]);
}

/** A granted advisory lock of embedd's classes that a role without any right to work for embedd holds. */
export interface ForeignLock {
  class: string;
  /** The pipeline, worker or job that the lock's number stands for. */
  id: number;
  mode: string;
  /** null: a prepared transaction. */
  pid: number | null;
  role: string;
}

export async function foreignLocks(db: Pool | ClientBase): Promise<ForeignLock[]> {
  const { rows } = await db.query<ForeignLock>(`
select class, id::float8 as id, mode, pid, role
from embedd.foreign_locks
order by class, id, pid
limit 20`);
  return rows;
}
