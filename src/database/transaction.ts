import pg from "pg";
import type { ClientBase, Pool, QueryResult, QueryResultRow } from "pg";
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

/**
 * Runs one statement. Unlike with `pool.query`, its connection stays open if the statement fails: a table may refuse
 * many rows, and a new connection for each would cost more than the rows.
 * @throws what the database throws; the connection is closed if the error speaks of it
 */
export async function runStatement<R extends QueryResultRow>(
  pool: Pool,
  text: string,
  values: unknown[],
): Promise<QueryResult<R>> {
  const client = await pool.connect();
  let broken = true;
  try {
    const result = await client.query<R>(text, values);
    broken = false;
    return result;
  } catch (error) {
    broken = !(error instanceof pg.DatabaseError) || isSessionError(error);
    throw error;
  } finally {
    client.release(broken);
  }
}
