import type { Pool } from "pg";
import type { Pipeline } from "./pipeline.js";

/** The content columns of rows that wait, picked at random, each cut at `maxChars`; at most `limit` rows. */
export async function sampleBacklog(
  pool: Pool,
  pipeline: Pipeline,
  { limit, maxChars }: { limit: number; maxChars: number },
): Promise<(string | null)[][]> {
  const columns = pipeline.content.map((column) => `left(t.${column}::text, $2)`);
  const { rows } = await pool.query<{ content: (string | null)[] }>(
    `
select array[${columns.join(", ")}] as content
from (select t.ctid, t.tableoid from ${pipeline.relation} t where ${pipeline.pending} order by random() limit $1) as picked
join ${pipeline.relation} t on t.ctid = picked.ctid and t.tableoid = picked.tableoid`,
    [limit, maxChars],
  );
  return rows.map((row) => row.content);
}
