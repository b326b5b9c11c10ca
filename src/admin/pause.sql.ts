import type { Pool } from "pg";

/**
 * Pauses or resumes a table's pipelines on all workers.
 * @param embedding only this column's pipeline; undefined: all of the table
 * @returns the number of pipelines
 */
export async function setPaused(
  pool: Pool,
  relation: string,
  embedding: string | undefined,
  paused: boolean,
): Promise<number> {
  const { rowCount } = await pool.query(
    `
update embedd.pipelines
set paused = $3
where relation = embedd.resolve_watched($1)
  and embedding_column = coalesce($2, embedding_column)`,
    [relation, embedding, paused],
  );
  return rowCount ?? 0;
}
