import type { Pool } from "pg";

export interface FailureEntry {
  relation: string;
  embedding: string;
  /** The row's primary key as text. */
  key: string;
  attempts: number;
  code: string;
  error: string;
  failedAt: Date;
  nextAttemptAt: Date;
  dead: boolean;
}

/** Lists failed rows, the latest failure first. @param relation as SQL names it; omitted: all tables */
export async function listFailures(
  pool: Pool,
  { relation, deadOnly, limit }: { relation?: string | undefined; deadOnly: boolean; limit: number },
): Promise<FailureEntry[]> {
  const { rows } = await pool.query<FailureEntry>(
    `
select p.relation::text as relation,
  p.embedding_column as embedding,
  f.key,
  f.attempts,
  f.code,
  f.error,
  f.failed_at as "failedAt",
  f.next_attempt_at as "nextAttemptAt",
  f.dead
from embedd.failures f
join embedd.pipelines p on p.id = f.pipeline_id
where (f.dead or not $1)
  and f.code <> 'white_space'
  and ($3::text is null or p.relation = embedd.resolve($3))
order by f.failed_at desc, f.key
limit $2`,
    [deadOnly, limit, relation],
  );
  return rows;
}

/**
 * Retries failed rows at once, dead ones too, and wakes the workers. Rows without a vector are found by that, so their
 * failures are forgotten. Rows with an old vector are found by their failures; where no refresh runs, one begins that
 * deals with those alone.
 * @param relation as SQL names it; omitted: all tables
 * @param key a row's key as `listFailures` returns it; omitted: all rows
 * @returns the number of rows to retry
 */
export async function retryFailures(
  pool: Pool,
  { relation, key }: { relation?: string | undefined; key?: string | undefined },
): Promise<number> {
  const { rows } = await pool.query<{ count: number }>(
    `
with chosen as materialized (
  select f.pipeline_id, f.key, f.stale
  from embedd.failures f
  join embedd.pipelines p on p.id = f.pipeline_id
  where ($1::text is null or p.relation = embedd.resolve($1))
    and ($2::text is null or f.key = $2)
    and f.code <> 'white_space'
), forgotten as (
  delete from embedd.failures f
  using chosen c
  where f.pipeline_id = c.pipeline_id and f.key = c.key and not c.stale
  returning f.pipeline_id
), due as (
  update embedd.failures f
  set attempts = 0, dead = false, next_attempt_at = now()
  from chosen c
  where f.pipeline_id = c.pipeline_id and f.key = c.key and c.stale
  returning f.pipeline_id
), refreshing as (
  update embedd.pipelines p
  set refresh_started_at = now(), refresh_cursor = '{}'
  where p.id in (select pipeline_id from due) and p.refresh_started_at is null
), freed as (
  select pipeline_id from forgotten
  union all
  select pipeline_id from due
), woken as (
  select embedd.notify(pipeline_id::text)
  from freed
  group by pipeline_id
)
select (select count(*) from freed)::integer as count,
  (select count(*) from woken) as woken`,
    [relation, key],
  );
  return rows[0]?.count ?? 0;
}
