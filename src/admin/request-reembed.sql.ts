import type { ClientBase, Pool } from "pg";

/** The pipelines of a table, as SQL names it; without it all. */
export async function pipelinesOf(db: Pool | ClientBase, relation: string | undefined): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    "select id from embedd.pipelines where $1::text is null or relation = embedd.resolve($1) order by id",
    [relation],
  );
  return rows.map((row) => row.id);
}

/** Has the stale rows of these pipelines embedded again. */
export async function startReembedding(db: Pool | ClientBase, pipelineIds: readonly number[]): Promise<void> {
  await db.query("update embedd.pipelines set reembed = true where id = any ($1) and not reembed", [
    pipelineIds,
  ]);
}

/** Leaves the stale rows of these pipelines as they are; returns of how many that changes something. */
export async function stopReembedding(
  db: Pool | ClientBase,
  pipelineIds: readonly number[],
): Promise<number> {
  const { rowCount } = await db.query(
    "update embedd.pipelines set reembed = false where id = any ($1) and reembed",
    [pipelineIds],
  );
  return rowCount ?? 0;
}

/** Of these pipelines, those whose stale rows are still to be embedded again. */
export async function reembedding(db: Pool | ClientBase, pipelineIds: readonly number[]): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    "select id from embedd.pipelines where id = any ($1) and reembed order by id",
    [pipelineIds],
  );
  return rows.map((row) => row.id);
}
