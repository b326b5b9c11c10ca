import type { ClientBase, Pool } from "pg";

/** Lists a table's pipelines. @param relation as SQL names it; undefined: all tables */
export async function pipelinesOf(db: Pool | ClientBase, relation: string | undefined): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    `
select id
from embedd.pipelines
where $1::text is null or relation = embedd.resolve_watched($1)
order by id`,
    [relation],
  );
  return rows.map((row) => row.id);
}

/** Asks the workers to re-embed the stale rows of these pipelines. */
export async function startReembedding(db: Pool | ClientBase, pipelineIds: readonly number[]): Promise<void> {
  await db.query(
    `
update embedd.pipelines
set reembed = true
where id = any ($1)
  and not reembed`,
    [pipelineIds],
  );
}

/** Leaves the stale rows of these pipelines as they are. @returns how many pipelines were re-embedding */
export async function stopReembedding(
  db: Pool | ClientBase,
  pipelineIds: readonly number[],
): Promise<number> {
  const { rowCount } = await db.query(
    `
update embedd.pipelines
set reembed = false
where id = any ($1)
  and reembed`,
    [pipelineIds],
  );
  return rowCount ?? 0;
}

/** Lists those of these pipelines that are re-embedding. */
export async function reembedding(db: Pool | ClientBase, pipelineIds: readonly number[]): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    `
select id
from embedd.pipelines
where id = any ($1)
  and reembed
order by id`,
    [pipelineIds],
  );
  return rows.map((row) => row.id);
}
