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

/** Asks the workers to re-embed every row of these pipelines that has a vector; a refresh that runs starts again. */
export async function startRefresh(db: Pool | ClientBase, pipelineIds: readonly number[]): Promise<void> {
  await db.query("select embedd.resolve_gap(id, 'refresh') from unnest($1::integer[]) as id", [pipelineIds]);
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
from embedd.failures
where pipeline_id = any ($1)
  and dead
  and stale`,
    [pipelineIds],
  );
  return rows[0]?.count ?? 0;
}

/** The gap that a refresh leaves when it is stopped. */
const STOPPED = "a refresh was stopped before it had reached every row";

/**
 * Leaves the rows of these pipelines as they are. Where a refresh is cut short, the pipeline has a gap.
 * @returns those that were re-embedding, and whether by a refresh
 */
export async function stopReembedding(
  db: Pool | ClientBase,
  pipelineIds: readonly number[],
): Promise<{ relation: string; refreshing: boolean }[]> {
  const { rows } = await db.query<{ relation: string; refreshing: boolean }>(
    `
with running as materialized (
  select p.id, p.relation::text as relation, p.refresh_started_at is not null as refreshing
  from embedd.pipelines p
  where p.id = any ($1)
    and (p.reembed or p.refresh_started_at is not null)
  for update
),
windows as (
  delete from embedd.refresh_windows
  where pipeline_id in (select id from running)
),
stopped as (
  update embedd.pipelines p
  set reembed = false,
    gap = case when r.refreshing then coalesce(p.gap, $2) else p.gap end,
    refresh_started_at = null,
    refresh_cursor = null
  from running r
  where p.id = r.id
)
select relation, refreshing
from running
order by id`,
    [pipelineIds, STOPPED],
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
