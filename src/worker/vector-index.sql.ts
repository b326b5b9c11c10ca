import type { ClientBase, Pool } from "pg";
import { INDEX_CLASS } from "../database/advisory-locks.js";

/** Takes the lock under which a pipeline's vector index is built, unless another session has it. */
export async function tryLockIndex(
  client: ClientBase,
  pipelineId: number,
): Promise<{ pid: number; free: boolean }> {
  const { rows } = await client.query<{ pid: number; free: boolean }>(
    `select pg_backend_pid() as pid, pg_try_advisory_lock(${INDEX_CLASS}, $1::integer) as free`,
    [pipelineId],
  );
  return rows[0] ?? { pid: 0, free: false };
}

/** Cancels what the server process with this pid is running. */
export async function cancelBackend(pool: Pool, pid: number): Promise<void> {
  await pool.query("select pg_cancel_backend($1)", [pid]);
}
