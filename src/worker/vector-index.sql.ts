import type { Pool } from "pg";

/** Cancels what the server process with this pid is running. */
export async function cancelBackend(pool: Pool, pid: number): Promise<void> {
  await pool.query("select pg_cancel_backend($1)", [pid]);
}
