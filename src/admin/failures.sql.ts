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
  and ($3::text is null or p.relation = embedd.resolve($3))
order by f.failed_at desc, f.key
limit $2`,
    [deadOnly, limit, relation],
  );
  return rows;
}

/**
 * Retries failed rows at once, dead ones too: forgets their failures and wakes the workers.
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
with freed as (
  delete from embedd.failures f
  using embedd.pipelines p
  where p.id = f.pipeline_id
    and ($1::text is null or p.relation = embedd.resolve($1))
    and ($2::text is null or f.key = $2)
  returning f.pipeline_id
), woken as (
  select pg_notify('embedd', pipeline_id::text)
  from freed
  group by pipeline_id
)
select (select count(*) from freed)::integer as count,
  (select count(*) from woken) as woken`,
    [relation, key],
  );
  return rows[0]?.count ?? 0;
}
