import type { ClientBase, Pool } from "pg";
import pgvector from "pgvector";
import type { Pipeline } from "../database/pipeline.js";
import { columnsAreCurrent, keyText } from "../database/key-sql.js";
import { inTransaction } from "../database/transaction.js";

export interface SearchResult {
  key: string;
  /** Cosine distance: 0 for the same direction, 2 for the opposite. */
  distance: number;
  /** The text of each content column, cut at `maxChars`. */
  content: Record<string, string | null>;
}

interface Limits {
  limit: number;
  maxChars: number;
}

/**
 * pgvector's index looks for the nearest rows of all models; from 0.8 on it goes on looking while too few are
 * left. Set only where it is known, since an older library refuses the name.
 */
const goOnScanning = `
select set_config('hnsw.iterative_scan', 'strict_order', true) from pg_extension
where extname = 'vector' and string_to_array(substring(extversion from '^\\d+\\.\\d+'), '.')::integer[] >= '{0,8}'`;

/**
 * The nearest rows by cosine distance; only rows whose vector is of `model`, since others do not compare.
 * Where the vector index gives fewer than `limit`, the table is searched without it.
 * None where the columns have been given to another model since the pipeline was loaded.
 */
export async function searchRows(
  pool: Pool,
  pipeline: Pipeline,
  model: string,
  query: Float32Array,
  limits: Limits,
): Promise<SearchResult[]> {
  return inTransaction(pool, async (client) => {
    await client.query(goOnScanning);
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
  const { rows } = await client.query<SearchResult>(
    `
select ${keyText(pipeline)} as key,
  ${distance} as distance,
  jsonb_build_object(${pipeline.content.map((column, i) => `($5::text[])[${i + 1}], left(t.${column}::text, $4)`).join(", ")}) as content
from ${pipeline.relation} t
where t.${pipeline.embedding} is not null and t.${pipeline.modelColumn} = $2 and ${columnsAreCurrent(pipeline, "$6")}
order by ${exact ? `(${distance}) + 0 /* no index has this */` : distance} limit $3`,
    [pgvector.toSql(Array.from(query)), model, limit, maxChars, pipeline.contentNames, pipeline.id],
  );
  return rows;
}
