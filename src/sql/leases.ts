import type { ClientBase, Pool } from "pg";
import { PRESENCE_CLASS } from "./pipeline.js";

/** Gives the rows of one batch back. */
export async function releaseLease(pool: Pool, leaseId: string): Promise<void> {
  await pool.query("delete from embedd.leases where id = $1", [leaseId]);
}

/** Keeps only these keys leased, and gives the others of the batch back. */
export async function trimLease(pool: Pool, leaseId: string, keys: readonly string[]): Promise<void> {
  await pool.query("update embedd.leases set keys = $2 where id = $1", [leaseId, keys]);
}

/** Gives back whatever a worker still has. */
export async function releaseWorker(pool: Pool, worker: number): Promise<void> {
  await pool.query("delete from embedd.leases where worker = $1", [worker]);
}

/** Puts off the expiry of batches that are still being worked on. */
export async function renewLeases(pool: Pool, leaseIds: readonly string[], leaseMs: number): Promise<void> {
  await pool.query(
    "update embedd.leases set expires_at = now() + $2 * interval '1 ms' where id = any ($1::bigint[])",
    [leaseIds, leaseMs],
  );
}

/** Of these pipelines, those where a lease has become void or a failed row's next attempt is due. */
export async function duePipelines(client: ClientBase, pipelineIds: readonly number[]): Promise<number[]> {
  const result = await client.query<{ id: number }>(
    `
select p.id from unnest($1::integer[]) as p (id)
where exists (
    select from embedd.leases l where l.pipeline_id = p.id and (l.expires_at < now()
      or (current_setting('embedd.single_session', true) is distinct from 'on' and not exists (
        select from pg_locks k where k.locktype = 'advisory' and k.classid = ${PRESENCE_CLASS} and k.objid = l.worker
          and k.objsubid = 2 and k.granted and k.database = (select oid from pg_database where datname = current_database())))))
  or exists (
    select from embedd.failures f where f.pipeline_id = p.id and not f.dead and f.next_attempt_at <= now())`,
    [pipelineIds],
  );
  return result.rows.map((row) => row.id);
}
