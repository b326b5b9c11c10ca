import type { Pool } from "pg";
import type { Pipeline } from "../database/pipeline.js";
import { inTransaction } from "../database/transaction.js";

/**
 * The pipeline with the model that served it before. No worker has recorded one where the table came with vectors; then
 * one of them tells, if that does not take long to find out.
 */
export async function withFormerModel(pool: Pool, pipeline: Pipeline, model: string): Promise<Pipeline> {
  if (pipeline.servedModel !== null) return pipeline;
  const { relation, embedding, modelColumn } = pipeline;
  const found = await inTransaction(pool, async (client) => {
    await client.query("set local statement_timeout = '2s'");
    const { rows } = await client.query<{ model: string }>(
      `select coalesce(${modelColumn}, 'an unnamed model') as model from ${relation}
       where ${embedding} is not null and ${modelColumn} is distinct from $1 limit 1`,
      [model],
    );
    return rows[0]?.model ?? null;
  }).catch(() => null);
  return { ...pipeline, servedModel: found };
}

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
