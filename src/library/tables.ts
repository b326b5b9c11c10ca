import { z } from "zod";
import { listFailures, retryFailures } from "../admin/failures.sql.js";
import type { FailureEntry } from "../admin/failures.sql.js";
import { nothingWatched, watchedAs } from "../admin/pick-pipeline.js";
import {
  pipelinesOf,
  startReembedding,
  startRefresh,
  stopReembedding,
} from "../admin/request-reembed.sql.js";
import { search as searchTable } from "../admin/search.js";
import type { SearchResult } from "../admin/search.sql.js";
import { readStatus } from "../admin/status.sql.js";
import type { PipelineStatus } from "../admin/status.sql.js";
import { unwatch as unwatchTable, watch as watchTable } from "../admin/watch.js";
import { checkArguments, wholeNumber } from "../check-arguments.js";
import { DEFAULTS } from "../defaults.js";
import { configurationError } from "../errors.js";
import type { Provider } from "../providers/provider.js";
import { onClient, onPool } from "./database.js";
import type { Database } from "./database.js";

export type { Database } from "./database.js";

export interface WatchTableOptions {
  /** As SQL names it. */
  table: string;
  /** The columns that hold the text, in order. */
  content: readonly string[];
  /** The vector(n) or halfvec(n) column. @default "embedding" */
  embedding?: string | undefined;
  /** The column for the model's name. @default the embedding column's name and `_model` */
  modelColumn?: string | undefined;
  /** How to join the columns into one text, such as `{title}\n\n{body}`. @default one per line */
  template?: string | undefined;
  /** The only model that may serve the column. @default any */
  model?: string | undefined;
  /** A worker builds it once no rows are pending. @default none */
  index?: "hnsw" | undefined;
  /** Adds missing embedding and model columns, for vectors of this many dimensions. @default none are added */
  createColumns?: number | undefined;
  /** Required where vectors exist: `keep` trusts them, `refresh` re-embeds their rows. */
  existing?: "keep" | "refresh" | undefined;
  /** The workers' provider. A column that it could never fill is refused. @default not checked, unless `model` is known */
  provider?: Pick<Provider, "model" | "dimensions" | "supportsDimensions"> | undefined;
}

const name = z.string({ error: "must be a string" }).min(1, { error: "must not be empty" });
const filter = z.object({ table: name.optional() });

/**
 * Watches a table, as `embedd watch` does. The role owns the table.
 * @returns the pipeline's number
 * @throws EmbeddError of kind `configuration`; nothing was changed then
 */
export async function watch(db: Database, options: WatchTableOptions): Promise<number> {
  const schema = z.object({
    table: name,
    content: z.array(name, { error: "must be a list of column names" }).min(1),
    embedding: name.optional(),
    modelColumn: name.optional(),
    template: z.string().optional(),
    model: name.optional(),
    index: z.literal("hnsw").optional(),
    createColumns: wholeNumber(1, 16_000).optional(),
    existing: z.enum(["keep", "refresh"], { error: "must be keep or refresh" }).optional(),
    provider: z.object({ supportsDimensions: z.function() }, { error: "must be a provider" }).optional(),
  });
  const { table, embedding = "embedding", ...rest } = checkArguments("watch", schema, options);
  const { provider } = options;
  return onClient("watch", db, (client) =>
    watchTable(client, { ...rest, relation: table, embedding, provider }),
  );
}

/**
 * Stops watching a table. Vectors stay, unless `dropColumns` is set.
 * @param options `embedding`: only this column
 * @returns the number of columns that are no longer watched
 * @throws EmbeddError `configuration`/`not_watched`
 */
export async function unwatch(
  db: Database,
  table: string,
  options: { embedding?: string | undefined; dropColumns?: boolean | undefined } = {},
): Promise<number> {
  const schema = z.object({
    table: name,
    embedding: name.optional(),
    dropColumns: z.boolean({ error: "must be true or false" }).optional(),
  });
  const { embedding, dropColumns = false } = checkArguments("unwatch", schema, { ...options, table });
  return onClient("unwatch", db, (client) => unwatchTable(client, table, { embedding, dropColumns }));
}

/**
 * The state of every watched column, as `embedd status --json` prints it. Counts the rows of each of their tables.
 * @param options `table`: only this table's columns; no other table is read
 * @throws EmbeddError `configuration`/`no_such_table` or `not_watched`
 */
export async function status(
  db: Database,
  options: { table?: string | undefined } = {},
): Promise<PipelineStatus[]> {
  const { table } = checkArguments("status", filter, options);
  return onPool("status", db, async (pool) =>
    readStatus(pool, table === undefined ? null : await watchedAs(pool, table)),
  );
}

/**
 * Lists failed rows, the latest failure first.
 * @param options `dead`: only rows that are no longer retried; `limit`: the most rows, by default 100
 */
export async function failures(
  db: Database,
  options: { table?: string | undefined; dead?: boolean | undefined; limit?: number | undefined } = {},
): Promise<FailureEntry[]> {
  const schema = filter.extend({
    dead: z.boolean({ error: "must be true or false" }).optional(),
    limit: wholeNumber(1, 1_000_000).optional(),
  });
  const { table, dead = false, limit = 100 } = checkArguments("failures", schema, options);
  return onPool("failures", db, (pool) => listFailures(pool, { relation: table, deadOnly: dead, limit }));
}

/**
 * Retries failed rows at once, dead ones too.
 * @param options `key`: only the row with this key, as `failures` shows it
 * @returns the number of rows to retry
 */
export async function retry(
  db: Database,
  options: { table?: string | undefined; key?: string | undefined } = {},
): Promise<number> {
  const { table, key } = checkArguments("retry", filter.extend({ key: name.optional() }), options);
  return onPool("retry", db, (pool) => retryFailures(pool, { relation: table, key }));
}

/**
 * Asks the workers to re-embed rows in the background, after all pending rows; `status` shows the progress.
 * @param options `rows`: `stale` ones, whose vector is not from the current model (default), or `all` that have a
 *   vector; `none` stops re-embedding
 * @returns the numbers of the pipelines concerned
 * @throws EmbeddError `configuration`/`not_watched`
 */
export async function reembed(
  db: Database,
  options: { table?: string | undefined; rows?: "stale" | "all" | "none" | undefined } = {},
): Promise<number[]> {
  const rows = z.enum(["stale", "all", "none"], { error: "must be stale, all or none" });
  const schema = filter.extend({ rows: rows.optional() });
  const { table, rows: which = "stale" } = checkArguments("reembed", schema, options);
  const act = { stale: startReembedding, all: startRefresh, none: stopReembedding }[which];
  return onPool("reembed", db, async (pool) => {
    const ids = await pipelinesOf(pool, table);
    if (ids.length === 0) throw nothingWatched();
    await act(pool, ids);
    return ids;
  });
}

export interface SearchTableOptions {
  /** As SQL names it. Required if several tables are watched. */
  table?: string | undefined;
  /** The embedding column. Required if the table has several. */
  embedding?: string | undefined;
  /** The most rows. @default 5 */
  limit?: number | undefined;
  /** The most characters of each content column. @default 65536 */
  maxChars?: number | undefined;
}

/**
 * Finds the rows nearest in meaning to a query, by cosine distance, among those of the provider's model.
 * @param provider of the model that serves the column
 * @returns at most `limit` rows, nearest first
 * @throws EmbeddError of kind `configuration`; of kind `provider` or `row` as `embedQuery`
 */
export async function search(
  db: Database,
  provider: Provider,
  query: string,
  options: SearchTableOptions = {},
): Promise<SearchResult[]> {
  const schema = filter.extend({
    query: name,
    embedding: name.optional(),
    limit: wholeNumber(1, 10_000).optional(),
    maxChars: wholeNumber(0, 1_000_000_000).optional(),
  });
  const {
    table,
    embedding,
    limit = 5,
    maxChars = DEFAULTS.maxChars,
  } = checkArguments("search", schema, {
    ...options,
    query,
  });
  return onPool("search", db, async (pool) => {
    const { results } = await searchTable(pool, provider, query, { table, embedding, limit, maxChars });
    return results;
  });
}

/**
 * A vector as pgvector reads it, to bind as a parameter: `$1::vector`.
 * @param vector of finite components
 */
export function vectorToSql(vector: Float32Array | readonly number[]): string {
  if (!(vector instanceof Float32Array) && !Array.isArray(vector))
    throw configurationError("argument", "vectorToSql: must be a Float32Array or an array of numbers");
  return `[${vector.join(",")}]`;
}
