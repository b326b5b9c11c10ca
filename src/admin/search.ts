import type { Pool } from "pg";
import { embedQuery } from "../providers/create-provider.js";
import type { Provider } from "../providers/provider.js";
import type { Pipeline } from "../database/pipeline.js";
import { pickPipeline } from "./pick-pipeline.js";
import type { PipelineName } from "./pick-pipeline.js";
import { searchRows } from "./search.sql.js";
import type { SearchResult } from "./search.sql.js";

/** Which pipeline to search, and how much to return. */
export interface SearchOptions extends PipelineName {
  /** The most rows. */
  limit: number;
  /** The most characters of each content column. */
  maxChars: number;
}

/**
 * Embeds a query and finds the nearest rows.
 * A switch to another model may happen after the pipeline was loaded. Then the search finds nothing, or the column is
 * gone; so it loads the pipeline again and searches once more.
 * @returns the rows nearest in meaning, nearest first, and the pipeline that was searched
 * @throws EmbeddError `configuration`/`which_table` or `not_watched`; of kind `provider` or `row` as `embedQuery`
 */
export async function search(
  pool: Pool,
  provider: Provider,
  query: string,
  options: SearchOptions,
): Promise<{ pipeline: Pipeline; results: SearchResult[] }> {
  const pipeline = await pickPipeline(pool, query, options);
  const attempt = async (p: Pipeline): Promise<SearchResult[]> => {
    if (!provider.supportsDimensions(p.dimensions)) return [];
    const vector = await embedQuery(provider, query, { dimensions: p.dimensions });
    return searchRows(pool, p, provider.model, vector, options);
  };
  const changed = async (): Promise<Pipeline | null> => {
    const now = await pickPipeline(pool, query, options);
    return now.id === pipeline.id && now.embedding === pipeline.embedding ? null : now;
  };
  try {
    const results = await attempt(pipeline);
    if (results.length > 0) return { pipeline, results };
  } catch (error) {
    if ((await changed()) === null) throw error;
  }
  const now = await changed();
  return { pipeline: now ?? pipeline, results: now === null ? [] : await attempt(now) };
}
