import type { Pool } from "pg";
import { pipelinesNamed } from "./watched.sql.js";

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

/**
 * Lists failed rows, the latest failure first.
 * @param relation as SQL names it; omitted: all tables
 * @throws the schema's refusal with code `no_such_table` or `not_watched`
 */
export async function listFailures(
  pool: Pool,
  { relation, deadOnly, limit }: { relation?: string | undefined; deadOnly: boolean; limit: number },
): Promise<FailureEntry[]> {
  const { rows } = await pool.query<FailureEntry>(
    `
select embedd.name_of(p.relation) as relation,
  p.embedding_column as embedding,
  f.key,
  f.attempts,
  f.code,
  f.error,
  f.failed_at as "failedAt",
  f.next_attempt_at as "nextAttemptAt",
  f.dead
from embedd.visible_failures() f
join embedd.pipelines p on p.id = f.pipeline_id
where (f.dead or not $1)
  and f.code <> 'white_space'
  and ($3::integer[] is null or p.id = any ($3))
order by f.failed_at desc, f.key
limit $2`,
    [deadOnly, limit, relation === undefined ? null : await pipelinesNamed(pool, relation)],
  );
  return rows;
}

/**
 * Retries failed rows at once, dead ones too, and wakes the workers.
 * @param relation as SQL names it; omitted: all tables that the role may manage
 * @param key a row's key as `listFailures` returns it; omitted: all rows
 * @returns the number of rows to retry
 */
export async function retryFailures(
  pool: Pool,
  { relation, key }: { relation?: string | undefined; key?: string | undefined },
): Promise<number> {
  const { rows } = await pool.query<{ count: number }>(
    "select embedd.retry(array(select embedd.managed_pipelines($1)), $2) as count",
    [relation, key],
  );
  return rows[0]?.count ?? 0;
}
