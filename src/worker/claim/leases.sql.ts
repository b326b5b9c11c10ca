import type { Pool } from "pg";

/** Releases all rows of a batch. */
export async function releaseLease(pool: Pool, leaseId: string): Promise<void> {
  await pool.query("delete from embedd.leases where id = $1", [leaseId]);
}

/** Keeps only these keys leased and releases the other rows of the batch. */
export async function trimLease(pool: Pool, leaseId: string, keys: readonly string[]): Promise<void> {
  await pool.query("update embedd.leases set keys = $2 where id = $1", [leaseId, keys]);
}

/** Releases everything a worker still has leased. */
export async function releaseWorker(pool: Pool, worker: number): Promise<void> {
  await pool.query("delete from embedd.leases where worker = $1", [worker]);
}

/**
 * Releases the leases that a worker has of a pipeline without knowing of them: the answer to their COMMIT, or to their
 * release, was lost. No claim of the worker may be under way on this pipeline.
 */
export async function releaseUnknown(
  pool: Pool,
  worker: number,
  pipelineId: number,
  known: readonly string[],
): Promise<void> {
  await pool.query(
    "delete from embedd.leases where worker = $1 and pipeline_id = $2 and id <> all ($3::bigint[])",
    [worker, pipelineId, known],
  );
}

/** Extends the leases of batches that are still in progress. */
export async function renewLeases(pool: Pool, leaseIds: readonly string[], leaseMs: number): Promise<void> {
  await pool.query(
    "update embedd.leases set expires_at = now() + $2 * interval '1 ms' where id = any ($1::bigint[])",
    [leaseIds, leaseMs],
  );
}
