import type { ClientBase, Pool } from "pg";

/**
 * Lists the pipelines of a table that the role may manage.
 * @param relation as SQL names it; undefined: all
 * @throws the schema's refusal with code `no_such_table` or `not_watched`
 */
export async function pipelinesOf(db: Pool | ClientBase, relation: string | undefined): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>("select embedd.managed_pipelines($1) as id", [relation]);
  return rows.map((row) => row.id);
}

/** Asks the workers to re-embed the stale rows of these pipelines. */
export async function startReembedding(db: Pool | ClientBase, pipelineIds: readonly number[]): Promise<void> {
  await db.query("select from embedd.request_reembed($1, 'stale')", [pipelineIds]);
}

/** Asks the workers to re-embed every row of these pipelines that has a vector; a refresh that runs starts again. */
export async function startRefresh(db: Pool | ClientBase, pipelineIds: readonly number[]): Promise<void> {
  await db.query("select from embedd.request_reembed($1, 'all')", [pipelineIds]);
}

/** Removes the cached vectors of the models that serve these pipelines. */
export async function emptyCache(db: Pool | ClientBase, pipelineIds: readonly number[]): Promise<void> {
  await db.query(
    `
delete from embedd.vectors v
where v.model in (select coalesce(p.model, p.served_model) from embedd.pipelines p where p.id = any ($1))`,
    [pipelineIds],
  );
}

/** Counts the dead rows of these pipelines that have a vector: those that could not be re-embedded. */
export async function countDeadWithVector(
  db: Pool | ClientBase,
  pipelineIds: readonly number[],
): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `
select count(*)::float8 as count
from embedd.visible_failures()
where pipeline_id = any ($1)
  and dead
  and stale`,
    [pipelineIds],
  );
  return rows[0]?.count ?? 0;
}

/**
 * Leaves the rows of these pipelines as they are. Where a refresh is cut short, the pipeline has a gap.
 * @returns those that were re-embedding, and whether by a refresh
 */
export async function stopReembedding(
  db: Pool | ClientBase,
  pipelineIds: readonly number[],
): Promise<{ relation: string; refreshing: boolean }[]> {
  const { rows } = await db.query<{ relation: string; refreshing: boolean }>(
    `select stopped as relation, was_refreshing as refreshing from embedd.request_reembed($1, 'none')`,
    [pipelineIds],
  );
  return rows;
}

/** Lists those of these pipelines that are re-embedding. */
export async function reembedding(db: Pool | ClientBase, pipelineIds: readonly number[]): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    `
select id
from embedd.pipelines
where id = any ($1)
  and (reembed or refresh_started_at is not null)
order by id`,
    [pipelineIds],
  );
  return rows.map((row) => row.id);
}
