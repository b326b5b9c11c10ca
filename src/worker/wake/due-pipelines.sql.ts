import type { ClientBase } from "pg";
import { PRESENCE_CLASS } from "../../database/advisory-locks.js";

/** Returns the pipelines with a void lease, a part of a refresh that its worker left, or a failed row that is due. */
export async function duePipelines(client: ClientBase, pipelineIds: readonly number[]): Promise<number[]> {
  const result = await client.query<{ id: number }>(
    `
select p.id
from unnest($1::integer[]) as p (id)
where exists (
    select from embedd.leases l
    where l.pipeline_id = p.id
      and (l.expires_at < now()
        or (current_setting('embedd.single_session', true) is distinct from 'on'
          and not exists (
            select from pg_locks k
            where k.locktype = 'advisory' and k.classid = ${PRESENCE_CLASS} and k.objid = l.worker
              and k.objsubid = 2 and k.granted
              and k.database = (select oid from pg_database where datname = current_database())))))
  or exists (
    select from embedd.refresh_windows w
    where w.pipeline_id = p.id
      and (w.expires_at < now() or w.worker not in (select id from embedd.workers)))
  or exists (
    select from embedd.failures f
    where f.pipeline_id = p.id and not f.dead and f.next_attempt_at <= now())`,
    [pipelineIds],
  );
  return result.rows.map((row) => row.id);
}
