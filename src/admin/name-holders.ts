import type { ClientBase } from "pg";
import { EmbeddError } from "../errors.js";
import { readHolders } from "./switch-model/table-lock.sql.js";

/**
 * Runs a command that waits at most 10 s for the lock of a table. Call it outside a transaction.
 * @param onWait called first if a transaction has held the table for a second or longer, with a description of its session
 * @throws EmbeddError with code `locked` that names the sessions which hold the table
 */
export async function namingHolders<T>(
  client: ClientBase,
  relation: string,
  work: () => Promise<T>,
  onWait?: (holders: string) => void,
): Promise<T> {
  if (onWait !== undefined) {
    // A table that does not exist is the command's own error.
    const holders = await readHolders(client, relation, 1).catch(() => null);
    if (holders !== null) onWait(holders);
  }
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof EmbeddError) || error.code !== "locked") throw error;
    const holders = await readHolders(client, relation).catch(() => null);
    if (holders === null) throw error;
    throw new EmbeddError(
      `${relation} could not be locked within 10 s: it is held by ${holders}; try again when they are done`,
      {
        kind: "database",
        code: "locked",
        cause: error,
      },
    );
  }
}
