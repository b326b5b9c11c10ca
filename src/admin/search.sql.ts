import type { ClientBase, Pool } from "pg";
import pgvector from "pgvector";
import type { Pipeline } from "../database/pipeline.js";
import { columnsAreCurrent, keyText } from "../database/key-sql.js";
import { inTransaction } from "../database/transaction.js";

export interface SearchResult {
  /** The row's primary key as text. */
  key: string;
  /** Cosine distance: 0 for the same direction, 2 for the opposite. */
  distance: number;
  /** The text of each content column, truncated at `maxChars`. */
  content: Record<string, string | null>;
}

interface Limits {
  limit: number;
  maxChars: number;
}

/**
 * pgvector's index finds the nearest rows of all models, of which the filter may leave too few. Since 0.8 it can keep
 * scanning until there are enough. Older versions do not know the setting and would fail.
 */
const keepScanning = `
select set_config('hnsw.iterative_scan', 'strict_order', true)
from pg_extension
where extname = 'vector'
  and string_to_array(substring(extversion from '^\\d+\\.\\d+'), '.')::integer[] >= '{0,8}'`;

/**
 * Finds the nearest rows by cosine distance. Searches only vectors from `model`, because vectors of different models
 * cannot be compared. If the vector index finds fewer than `limit` rows, it searches again without the index.
 * @returns at most `limit` rows, nearest first; none if a switch has given the columns to another model since the
 *   pipeline was loaded
 */
export async function searchRows(
  pool: Pool,
  pipeline: Pipeline,
  model: string,
  query: Float32Array,
  limits: Limits,
): Promise<SearchResult[]> {
  return inTransaction(pool, async (client) => {
    await client.query(keepScanning);
    const rows = await nearest(client, pipeline, model, query, limits);
    if (rows.length >= limits.limit) return rows;
    return nearest(client, pipeline, model, query, { ...limits, exact: true });
  });
}

async function nearest(
  client: ClientBase,
  pipeline: Pipeline,
  model: string,
  query: Float32Array,
  { limit, maxChars, exact = false }: Limits & { exact?: boolean },
): Promise<SearchResult[]> {
  const distance = `t.${pipeline.embedding} operator(${pipeline.vectorSchema}.<=>) $1::${pipeline.embeddingType}`;
  const content = pipeline.content.map((column, i) => `($5::text[])[${i + 1}], left(t.${column}::text, $4)`);
  const order = exact ? `(${distance}) + 0 /* no index has this expression */` : distance;
  const { rows } = await client.query<SearchResult>(
    `
select ${keyText(pipeline)} as key,
  ${distance} as distance,
  jsonb_build_object(${content.join(", ")}) as content
from ${pipeline.relation} t
where t.${pipeline.embedding} is not null
  and t.${pipeline.modelColumn} = $2
  and ${columnsAreCurrent(pipeline, "$6")}
order by ${order}
limit $3`,
    [pgvector.toSql(Array.from(query)), model, limit, maxChars, pipeline.contentNames, pipeline.id],
  );
  return rows;
}
