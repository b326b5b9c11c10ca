import type { ClientBase } from "pg";
import { configurationError } from "../errors.js";
import { buildIndex } from "../database/build-index.sql.js";
import { callSchema } from "../database/call-schema.js";
import { withoutTimeLimits } from "../database/maintenance.sql.js";
import { retryDeadlock } from "../database/retry-deadlock.js";
import { inClientTransaction } from "./client-transaction.js";
import { namingHolders } from "./name-holders.js";
import { addColumns, createPipeline, dropPipelines, findPipeline } from "./watch.sql.js";
import type { WatchOptions } from "./watch.sql.js";

export type { WatchOptions } from "./watch.sql.js";

/**
 * Watches a table, and builds the index of its pending rows without locking out writers.
 * @param client of the table's owner, outside a transaction
 * @returns the pipeline's id
 * @throws EmbeddError of kind `configuration` if the table cannot be watched; nothing was changed
 */
export function watch(
  client: ClientBase,
  options: WatchOptions,
  onIndex: () => void = () => undefined,
): Promise<number> {
  return withoutTimeLimits(client, async () => {
    const id = await retryDeadlock(() =>
      namingHolders(client, options.relation, () => callSchema(() => attach(client, options))),
    );
    onIndex();
    try {
      await buildIndex(client, id, "pending");
    } catch (error) {
      await unwatch(client, options.relation, { embedding: options.embedding });
      throw error;
    }
    return id;
  });
}

function attach(client: ClientBase, options: WatchOptions): Promise<number> {
  return inClientTransaction(client, async () => {
    if (options.createColumns !== undefined) await addColumns(client, options, options.createColumns);
    return createPipeline(client, options);
  });
}

/**
 * Stops watching a table.
 * @param embedding only this column's pipeline; omitted: all of the table
 * @param dropColumns also drop the embedding and model columns; otherwise the vectors stay
 * @returns the number of pipelines that ended
 * @throws EmbeddError with code `not_watched`
 */
export async function unwatch(
  client: ClientBase,
  relation: string,
  { embedding, dropColumns = false }: { embedding?: string | undefined; dropColumns?: boolean } = {},
): Promise<number> {
  return withoutTimeLimits(client, () =>
    namingHolders(client, relation, () =>
      callSchema(() => dropPipelines(client, relation, { embedding, dropColumns })),
    ),
  );
}

/**
 * Stops watching by the number of a pipeline, which works for any table, even one that is gone.
 * @throws EmbeddError with code `not_watched`
 */
export async function unwatchPipeline(
  client: ClientBase,
  pipeline: number,
  { dropColumns = false }: { dropColumns?: boolean } = {},
): Promise<string> {
  const found = await callSchema(() => findPipeline(client, pipeline));
  if (found === undefined) {
    throw configurationError("not_watched", `there is no pipeline ${pipeline}`, "embedd status");
  }
  await unwatch(client, found.name, { embedding: found.embedding, dropColumns });
  return found.relation;
}
