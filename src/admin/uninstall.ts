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
  foreignDependents,
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
 * @param cascade also drop what others built on embedd's objects, or put into its schema
 * @returns the tables that were watched
 * @throws EmbeddError with code `chunks_left` if embedd.chunks holds rows and `dropChunks` is false; `dependents` if others
 *   built something on embedd's objects and `cascade` is false
 */
export async function uninstall(
  client: ClientBase,
  {
    dropColumns,
    dropChunks,
    cascade = false,
  }: { dropColumns: boolean; dropChunks: boolean; cascade?: boolean },
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
    const migrations = await committedMigrations();
    const others = await foreignDependents(
      client,
      migrations.flatMap(({ body }) => ownNames(body)),
    );
    if (others.length > 0 && !cascade) {
      throw configurationError(
        "dependents",
        `these would be dropped with the schema, and embedd did not make them: ${others.join(", ")}`,
        "embedd uninstall --cascade  # drops them too",
      );
    }
    await dropSchema(client);
    await dropBookkeeping(
      client,
      migrations.map(({ hash }) => hash),
    );
    return tables;
  };
  // A worker that claims rows at this moment has locked embedd's tables in another order.
  return withoutTimeLimits(client, () =>
    retryDeadlock(() => callSchema(() => inClientTransaction(client, remove))),
  );
}

/** The relations and functions that a migration creates in embedd's schema. */
function ownNames(migration: string): string[] {
  const created = /create (?:unlogged )?(?:table|view|sequence|function) embedd\.(\w+)/g;
  return [...migration.matchAll(created)].map(([, name = ""]) => name);
}
