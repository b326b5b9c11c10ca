import type { Pool } from "pg";
import { needsVector } from "../database/key-sql.js";
import type { Pipeline, WorkKind } from "../database/pipeline.js";

/**
 * The content columns of rows that wait, or whose vectors are of another model than `model`, picked at random,
 * each cut at `maxChars`; at most `limit` rows.
 */
export async function sampleBacklog(
  pool: Pool,
  pipeline: Pipeline,
  { kind, model, limit, maxChars }: { kind: WorkKind; model: string; limit: number; maxChars: number },
): Promise<(string | null)[][]> {
  const columns = pipeline.content.map((column) => `left(t.${column}::text, $2)`);
  const stale = kind === "stale";
  const waits = stale ? `${needsVector(pipeline, kind, "$3")} and ${pipeline.hasText}` : pipeline.pending;
  const { rows } = await pool.query<{ content: (string | null)[] }>(
    `
select array[${columns.join(", ")}] as content
from (select t.ctid, t.tableoid from ${pipeline.relation} t where ${waits} order by random() limit $1) as picked
join ${pipeline.relation} t on t.ctid = picked.ctid and t.tableoid = picked.tableoid`,
    stale ? [limit, maxChars, model] : [limit, maxChars],
  );
  return rows.map((row) => row.content);
}
