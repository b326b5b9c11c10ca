import type { Pool } from "pg";
import pgvector from "pgvector";
import type { Pipeline } from "./pipeline.js";
import { isPresent, keyText } from "./pipeline.js";

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
  const { rows } = await pool.query<{
    key: string;
    distance: number;
    content: Record<string, string | null>;
  }>(
    `
select ${keyText(pipeline)} as key,
  t.${pipeline.embedding} operator(${pipeline.vectorSchema}.<=>) $1::${pipeline.embeddingType} as distance,
  jsonb_build_object(${pipeline.content.map((column, i) => `($5::text[])[${i + 1}], left(t.${column}::text, $4)`).join(", ")}) as content
from ${pipeline.relation} t
where t.${pipeline.embedding} is not null and t.${pipeline.modelColumn} = $2 and ${isPresent(pipeline, "$6")}
order by t.${pipeline.embedding} operator(${pipeline.vectorSchema}.<=>) $1::${pipeline.embeddingType} limit $3`,
    [pgvector.toSql(Array.from(query)), model, limit, maxChars, pipeline.contentNames, pipeline.id],
  );
  return rows;
}
