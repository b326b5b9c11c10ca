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
  const { rows } = await pool.query<{ count: number }>("select embedd.set_paused($1, $2, $3) as count", [
    relation,
    embedding,
    paused,
  ]);
  return rows[0]?.count ?? 0;
}
