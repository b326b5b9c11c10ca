import type { ClientBase } from "pg";
import { buildIndex } from "../database/build-index.sql.js";
import { callSchema } from "../database/call-schema.js";

export interface WatchOptions {
  relation: string;
  content: string[];
  embedding: string;
  model?: string | undefined;
  modelColumn?: string | undefined;
  template?: string | undefined;
  /** Built by a worker once the backlog is done. */
  index?: "hnsw" | undefined;
  /** Adds the embedding and model columns where they are missing, for vectors of this many components. */
  createColumns?: number | undefined;
}

/**
 * Attaches embedd to a table, and builds the index of its waiting rows without locking writers out.
 * @returns the pipeline's id
 */
export async function watch(
  client: ClientBase,
  options: WatchOptions,
  onIndex: () => void = () => undefined,
): Promise<number> {
  const id = await callSchema(() => attach(client, options));
  onIndex();
  try {
    await buildIndex(client, id, "pending");
  } catch (error) {
    await unwatch(client, options.relation, { embedding: options.embedding });
    throw error;
  }
  return id;
}

async function attach(client: ClientBase, options: WatchOptions): Promise<number> {
  await client.query("begin");
  try {
    if (options.createColumns !== undefined) {
      await client.query("select embedd.add_columns($1, $2, $3, $4)", [
        options.relation,
        options.embedding,
        options.modelColumn,
        options.createColumns,
      ]);
    }
    const { rows } = await client.query<{ id: number }>(
      `select embedd.watch($1, $2, embedding_column => $3, model_column => $4, template => $5, model => $6,
         index_method => $7, create_index => false) as id`,
      [
        options.relation,
        options.content,
        options.embedding,
        options.modelColumn,
        options.template,
        options.model,
        options.index,
      ],
    );
    await client.query("commit");
    return rows[0]?.id ?? 0;
  } catch (error) {
    await client.query("rollback");
    throw error;
  }
}

/** Leaves a table; returns how many pipelines ended. The vectors stay unless their columns are to be dropped. */
export async function unwatch(
  client: ClientBase,
  relation: string,
  { embedding, dropColumns = false }: { embedding?: string | undefined; dropColumns?: boolean } = {},
): Promise<number> {
  return callSchema(async () => {
    const { rows } = await client.query<{ count: number }>("select embedd.unwatch($1, $2, $3) as count", [
      relation,
      embedding,
      dropColumns,
    ]);
    return rows[0]?.count ?? 0;
  });
}
