import type { Pool } from "pg";

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
