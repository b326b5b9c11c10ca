import type { ClientBase } from "pg";
import { callSchema } from "../database/call-schema.js";
import { retryDeadlock } from "../database/retry-deadlock.js";
import { EmbeddError } from "../errors.js";
import { readHolders } from "./switch-model/table-lock.sql.js";

/**
 * Runs a transaction that locks a table for a moment and waits at most 10 s for that. Repeats it after a deadlock. Call
 * it outside a transaction.
 * @param onWait called first if a transaction has held the table for a second or longer, with a description of its session
 * @throws EmbeddError with code `locked` that names the sessions which hold the table
 */
export function lockingTable<T>(
  client: ClientBase,
  relation: string,
  transaction: () => Promise<T>,
  onWait?: (holders: string) => void,
): Promise<T> {
  return retryDeadlock(() => namingHolders(client, relation, () => callSchema(transaction), onWait));
}

async function namingHolders<T>(
  client: ClientBase,
  relation: string,
  work: () => Promise<T>,
  onWait: ((holders: string) => void) | undefined,
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
