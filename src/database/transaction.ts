import type { ClientBase, Pool } from "pg";
import { isSessionError } from "./session-error.js";

/**
 * Runs `work` in one transaction on one connection.
 * @throws what `work` or the database throws, after a rollback; the connection is closed if the error speaks of it
 */
export async function inTransaction<T>(pool: Pool, work: (client: ClientBase) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query("begin");
    const result = await work(client);
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback").catch((reason: unknown) => {
      broken = reason instanceof Error ? reason : new Error(String(reason));
    });
    if (error instanceof Error && isSessionError(error)) broken = error;
    throw error;
  } finally {
    client.release(broken);
  }
}
