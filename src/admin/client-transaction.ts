import type { ClientBase } from "pg";

/** Runs `work` in one transaction of a connection; whatever it throws rolls back and is thrown on. */
export async function inClientTransaction<T>(client: ClientBase, work: () => Promise<T>): Promise<T> {
  await client.query("begin");
  try {
    const result = await work();
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback");
    throw error;
  }
}
