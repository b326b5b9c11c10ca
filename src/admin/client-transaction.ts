import type { ClientBase } from "pg";

/** Runs `work` in one transaction of a connection. An error rolls it back and is rethrown. */
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
