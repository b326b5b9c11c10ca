import type { Pool } from "pg";

/** Remembers that nothing was left to do, at most once a second. */
export async function markCaughtUp(pool: Pool, pipelineId: number): Promise<void> {
  await pool.query(
    `update embedd.pipelines set caught_up_at = now()
     where id = $1 and (caught_up_at is null or caught_up_at < now() - interval '1 s')`,
    [pipelineId],
  );
}

/** Says in embedd.status why a pipeline cannot be served; null when it can again. */
export async function setPipelineError(pool: Pool, pipelineId: number, error: string | null): Promise<void> {
  await pool.query("update embedd.pipelines set error = $2 where id = $1 and error is distinct from $2", [
    pipelineId,
    error,
  ]);
}
