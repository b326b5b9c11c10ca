import type { Pool } from "pg";

/** Ends re-embedding after a pass that found nothing, unless a leased or failed row may still become claimable. */
export async function endReembedding(pool: Pool, pipelineId: number, model: string): Promise<boolean> {
  const { rowCount } = await pool.query(
    `update embedd.pipelines p set reembed = false
     where p.id = $1 and p.reembed and coalesce(p.model, p.served_model, $2) = $2
       and not exists (select from embedd.leases l where l.pipeline_id = $1)
       and not exists (select from embedd.failures f where f.pipeline_id = $1 and f.stale and not f.dead)`,
    [pipelineId, model],
  );
  return rowCount === 1;
}
