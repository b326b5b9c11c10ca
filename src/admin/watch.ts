import pg from "pg";
import type { ClientBase } from "pg";
import { EmbeddError, configurationError } from "../errors.js";
import { shellWord } from "../shell-word.js";
import { buildIndex } from "../database/build-index.sql.js";
import { callSchema } from "../database/call-schema.js";
import { withoutTimeLimits } from "../database/maintenance.sql.js";
import { checkTemplate } from "../worker/embed/template.js";
import type { ModelShape } from "../providers/model-shape.js";
import { shapeOf } from "../providers/model-shape.js";
import { checkCreatedColumn, findMisfit } from "./column-misfit.js";
import { inClientTransaction } from "./client-transaction.js";
import { lockingTable } from "./name-holders.js";
import {
  buildNextIndex,
  checkRedefinition,
  dropNextIndex,
  findDefinition,
  renameNextIndex,
} from "./redefine.sql.js";
import type { Definition } from "./redefine.sql.js";
import { addColumns, createPipeline, dropPipelines, findPipeline, lacksColumn } from "./watch.sql.js";
import type { WatchOptions } from "./watch.sql.js";

export type { WatchOptions } from "./watch.sql.js";

/**
 * Watches a table, and builds the index of its pending rows without locking out writers. A column that is watched gets
 * its new content columns or template in one transaction.
 * @param client of the table's owner, outside a transaction
 * @param options `provider`: of the workers to come, which must be able to fill the column
 * @param onIndex called before an index is built
 * @param onWait called if sessions hold the table locked, before it waits for them; `holders` describes them
 * @returns the pipeline's id
 * @throws EmbeddError of kind `configuration` if the table cannot be watched; nothing was changed. Its code is
 *   `existing_vectors` if there are vectors and `existing` is missing, `dimensions` if the model that the column is
 *   pinned to, or `provider`'s, can never fill it
 */
export function watch(
  client: ClientBase,
  { provider, ...options }: WatchOptions & { provider?: ModelShape | undefined },
  onIndex: () => void = () => undefined,
  onWait?: (holders: string) => void,
): Promise<number> {
  return withoutTimeLimits(client, async () => {
    if (options.template !== undefined) checkTemplate(options.template, options.content);
    const definition = await callSchema(() => findDefinition(client, options));
    await checkCreatedColumn(client, options);
    // Other models may be configured elsewhere, but no worker of a pinned one could ever fill the column.
    const shape = provider ?? (options.model === undefined ? null : shapeOf(options.model));
    const misfit = shape === null ? null : await findMisfit(client, options, shape);
    if (misfit !== null) throw misfit;
    if (definition !== null) return redefine(client, definition, options, { onIndex, onWait });
    const id = await lockingTable(client, options.relation, () => attach(client, options), onWait);
    onIndex();
    try {
      await buildIndex(client, id, "pending");
    } catch (error) {
      if (isCanceled(error)) throw unfinished(options.relation, error);
      await unwatch(client, options.relation, { embedding: options.embedding });
      throw error;
    }
    return id;
  });
}

/** Whoever canceled the build may cut the connection next, so nothing is cleaned up. */
const isCanceled = (error: unknown): boolean => error instanceof pg.DatabaseError && error.code === "57014";

function unfinished(relation: string, cause: unknown): EmbeddError {
  return new EmbeddError(`the build of the index of pending rows of ${relation} was canceled`, {
    kind: "database",
    code: "index_unfinished",
    hint: `embedd repair ${shellWord(relation)}  # builds it`,
    cause,
  });
}

function attach(client: ClientBase, options: WatchOptions): Promise<number> {
  return inClientTransaction(client, async () => {
    if (options.createColumns === undefined) return createPipeline(client, options);
    // A new column has no vectors, and looking for some would take long while the table is locked.
    const existing = (await lacksColumn(client, options)) ? "keep" : options.existing;
    await addColumns(client, options, options.createColumns);
    return createPipeline(client, { ...options, existing });
  });
}

/** The index for the new columns is complete before the old one goes, so pending rows are indexed at any moment. */
async function redefine(
  client: ClientBase,
  definition: Definition,
  options: WatchOptions,
  { onIndex, onWait }: { onIndex: () => void; onWait: ((holders: string) => void) | undefined },
): Promise<number> {
  const { pipelineId, content } = definition;
  const columnsChange = JSON.stringify(content) !== JSON.stringify(options.content);
  if (columnsChange) {
    await callSchema(() => checkRedefinition(client, definition, options));
    onIndex();
  }
  try {
    if (columnsChange) await buildNextIndex(client, definition, options.content);
    return await lockingTable(
      client,
      options.relation,
      () =>
        inClientTransaction(client, async () => {
          const id = await createPipeline(client, options);
          if (columnsChange) await renameNextIndex(client, id);
          return id;
        }),
      onWait,
    );
  } catch (error) {
    await dropNextIndex(client, pipelineId).catch(() => undefined);
    throw error;
  }
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
    lockingTable(client, relation, () => dropPipelines(client, relation, { embedding, dropColumns })),
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
