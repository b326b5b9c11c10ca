import type { Pool } from "pg";
import { needsVector } from "../database/key-sql.js";
import type { Pipeline, WorkKind } from "../database/pipeline.js";

/**
 * Reads the content columns of randomly picked rows: pending ones, or those whose vectors are not from `model`.
 * Each column is truncated at `maxChars`. At most `limit` rows.
 */
export async function sampleBacklog(
  pool: Pool,
  pipeline: Pipeline,
  {
    kind,
    model,
    limit,
    maxChars,
  }: { kind: Exclude<WorkKind, "refresh">; model: string; limit: number; maxChars: number },
): Promise<(string | null)[][]> {
  const columns = pipeline.content.map((column) => `left(t.${column}::text, $2)`);
  const stale = kind === "stale";
  const condition = stale ? `${needsVector(pipeline, kind, "$3")} and ${pipeline.hasText}` : pipeline.pending;
  const { rows } = await pool.query<{ content: (string | null)[] }>(
    `
select array[${columns.join(", ")}] as content
from (
  select t.ctid, t.tableoid
  from ${pipeline.relation} t
  where ${condition}
  order by random()
  limit $1) as picked
join ${pipeline.relation} t on t.ctid = picked.ctid and t.tableoid = picked.tableoid`,
    stale ? [limit, maxChars, model] : [limit, maxChars],
  );
  return rows.map((row) => row.content);
}
