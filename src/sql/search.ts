import type { Pool } from "pg";
import pgvector from "pgvector";
import type { Pipeline } from "./pipeline.js";
import { isPresent, keyText } from "./pipeline.js";
import { inTransaction } from "./transaction.js";

export interface SearchResult {
  key: string;
  /** Cosine distance: 0 for the same direction, 2 for the opposite. */
  distance: number;
  /** The text of each content column, cut at `maxChars`. */
  content: Record<string, string | null>;
}

/**
 * The nearest rows by cosine distance; only rows whose vector is of `model`, since others do not compare.
 * None where the columns have been given to another model since the pipeline was loaded.
 */
export async function searchRows(
  pool: Pool,
  pipeline: Pipeline,
  model: string,
  query: Float32Array,
  { limit, maxChars }: { limit: number; maxChars: number },
): Promise<SearchResult[]> {
  const statement = `
select ${keyText(pipeline)} as key,
  t.${pipeline.embedding} operator(${pipeline.vectorSchema}.<=>) $1::${pipeline.embeddingType} as distance,
  jsonb_build_object(${pipeline.content.map((column, i) => `($5::text[])[${i + 1}], left(t.${column}::text, $4)`).join(", ")}) as content
from ${pipeline.relation} t
where t.${pipeline.embedding} is not null and t.${pipeline.modelColumn} = $2 and ${isPresent(pipeline, "$6")}
order by t.${pipeline.embedding} operator(${pipeline.vectorSchema}.<=>) $1::${pipeline.embeddingType} limit $3`;
  const values = [
    pgvector.toSql(Array.from(query)),
    model,
    limit,
    maxChars,
    pipeline.contentNames,
    pipeline.id,
  ];
  return inTransaction(pool, async (client) => {
    // An index gives the nearest rows of all models; those of others are left out only then.
    await client.query(`select set_config('hnsw.iterative_scan', 'strict_order', true)
      from pg_extension where extname = 'vector' and extversion !~ '^0\\.[0-7](\\.|$)'`);
    const near = await client.query<SearchResult>(statement, values);
    if (near.rows.length >= limit) return near.rows;
    await client.query("set local enable_indexscan = off");
    return (await client.query<SearchResult>(statement, values)).rows;
  });
}
