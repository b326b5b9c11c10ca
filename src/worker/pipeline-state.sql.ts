import type { Pool } from "pg";

/** Records that the backlog is done, at most once a second. */
export async function markCaughtUp(pool: Pool, pipelineId: number): Promise<void> {
  await pool.query(
    `update embedd.pipelines set caught_up_at = now()
     where id = $1 and (caught_up_at is null or caught_up_at < now() - interval '1 s')`,
    [pipelineId],
  );
}

/** Shows in embedd.status why a pipeline cannot be served; null: it can be. */
export async function setPipelineError(pool: Pool, pipelineId: number, error: string | null): Promise<void> {
  await pool.query("update embedd.pipelines set error = $2 where id = $1 and error is distinct from $2", [
    pipelineId,
    error,
  ]);
}

/** Shows in embedd.status what a pipeline waits for, and until when. */
export async function setWait(pool: Pool, pipelineId: number, reason: string, ms: number): Promise<void> {
  await pool.query(
    "update embedd.pipelines set wait_reason = $2, wait_until = now() + $3 * interval '1 ms' where id = $1",
    [pipelineId, reason, ms],
  );
}

export async function clearWait(pool: Pool, pipelineId: number): Promise<void> {
  await pool.query(
    "update embedd.pipelines set wait_reason = null, wait_until = null where id = $1 and wait_reason is not null",
    [pipelineId],
  );
}
