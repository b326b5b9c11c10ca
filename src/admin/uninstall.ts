import type { ClientBase } from "pg";
import { configurationError } from "../errors.js";
import { callSchema } from "../database/call-schema.js";
import { withoutTimeLimits } from "../database/maintenance.sql.js";
import { retryDeadlock } from "../database/retry-deadlock.js";
import { dropBookkeeping } from "./bookkeeping.sql.js";
import { inClientTransaction } from "./client-transaction.js";
import { committedMigrations } from "./migrate.js";
import {
  countChunks,
  dropSchema,
  dropStrays,
  limitUninstall,
  revokeWorkers,
  watchedTables,
} from "./uninstall.sql.js";
import { dropPipelines } from "./watch.sql.js";

/**
 * Removes embedd in one transaction, also the schema of another build: stops watching every table, then drops the
 * schema and the record of its migrations.
 * @param client of the tables' owner, outside a transaction
 * @param dropColumns also drop the embedding and model columns; otherwise the vectors stay
 * @param dropChunks drop embedd.chunks even if it holds rows
 * @returns the tables that were watched
 * @throws EmbeddError with code `chunks_left` if embedd.chunks holds rows and `dropChunks` is false
 */
export async function uninstall(
  client: ClientBase,
  { dropColumns, dropChunks }: { dropColumns: boolean; dropChunks: boolean },
): Promise<string[]> {
  const remove = async (): Promise<string[]> => {
    await limitUninstall(client);
    const count = await countChunks(client);
    if (count > 0 && !dropChunks) {
      throw configurationError(
        "chunks_left",
        `embedd.chunks holds ${count} rows, which would be deleted with the schema`,
        "embedd uninstall --drop-chunks",
      );
    }
    await revokeWorkers(client);
    const tables = await watchedTables(client);
    for (const table of tables) await dropPipelines(client, table, { embedding: undefined, dropColumns });
    await dropStrays(client);
    await dropSchema(client);
    await dropBookkeeping(
      client,
      (await committedMigrations()).map(({ hash }) => hash),
    );
    return tables;
  };
  // A worker that claims rows at this moment has locked embedd's tables in another order.
  return withoutTimeLimits(client, () =>
    retryDeadlock(() => callSchema(() => inClientTransaction(client, remove))),
  );
}
