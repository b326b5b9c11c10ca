import type { ClientBase, Pool } from "pg";
import type { IndexState } from "../database/build-index.sql.js";

/** One row of embedd.status. Counts are of rows; null: the table or a column is gone. */
export interface PipelineStatus {
  pipeline: number;
  relation: string;
  embedding: string;
  /** The model it is pinned to; null: any. */
  model: string | null;
  paused: boolean;
  error: string | null;
  pending: number | null;
  oldestPendingSeconds: number | null;
  /** null: on a standby, which does not see the workers of its primary. */
  inFlight: number | null;
  /** Backing off. */
  failed: number;
  dead: number;
  done: number | null;
  doneByModel: Record<string, number> | null;
  blank: number | null;
  vectorIndex: IndexState | null;
  /** The model that serves it; rows of other models are stale. */
  currentModel: string | null;
  stale: number | null;
  reembed: boolean;
  /** Why embedd cannot vouch for the vectors that are there; null: they are trusted. */
  gap: string | null;
  /** Whether every row that has a vector is being re-embedded. */
  refreshing: boolean;
  /** Rows that the refresh has yet to reach, about; null: none runs. */
  refreshLeft: number | null;
  /** Why its worker waits, such as a quota. */
  waitReason: string | null;
  waitUntil: Date | null;
  /** Since midnight UTC. */
  requestsToday: number;
  tokensToday: number;
  usdToday: number;
  /** Texts the model embedded today. */
  textsToday: number;
  /** Those of them that were truncated, at the model's limit or at EMBEDD_MAX_CHARS. */
  cutTextsToday: number;
  /** Whether this role has the rights to count rows. If not, the counts are null, and nothing is wrong. */
  mayCount: boolean;
  /** Why embedd does not read the table with this role's rights, and what to type; null: its owner gains none by that. */
  codeRisk: string | null;
}

/**
 * Reads the status of pipelines. Counts the rows of each of their tables once, and reads no other table.
 * @param ids omitted: all, or those of a role that works for one owner
 */
export async function readStatus(
  db: Pool | ClientBase,
  ids: readonly number[] | null = null,
): Promise<PipelineStatus[]> {
  const { rows } = await db.query<PipelineStatus>(
    `
select pipeline_id as pipeline,
  relation,
  embedding_column as embedding,
  model,
  paused,
  error,
  pending::float8 as pending,
  extract(epoch from oldest_pending_age)::float8 as "oldestPendingSeconds",
  in_flight::float8 as "inFlight",
  failed::float8 as failed,
  dead::float8 as dead,
  done::float8 as done,
  done_by_model as "doneByModel",
  blank::float8 as blank,
  vector_index as "vectorIndex",
  current_model as "currentModel",
  stale::float8 as stale,
  reembed,
  gap,
  refreshing,
  refresh_left::float8 as "refreshLeft",
  wait_reason as "waitReason",
  wait_until as "waitUntil",
  requests_today::float8 as "requestsToday",
  tokens_today::float8 as "tokensToday",
  usd_today::float8 as "usdToday",
  texts_today::float8 as "textsToday",
  cut_texts_today::float8 as "cutTextsToday",
  may_count as "mayCount",
  (
    select risk.what || '; ' || risk.cure
    from embedd.pipelines p
    cross join lateral embedd.code_risk(p.relation) as risk
    where p.id = pipeline_id) as "codeRisk"
from embedd.status
where ($1::integer[] is null or pipeline_id = any ($1))
  and coalesce(pipeline_id = any ((select embedd.scoped_pipelines())::integer[]), true)
order by pipeline_id`,
    [ids],
  );
  return rows;
}

/**
 * Whether somebody has to act. A pipeline that waits for its provider or a daily limit resumes on its own; one that this
 * role may not read is the business of other roles.
 */
export const hasProblem = ({
  error,
  failed,
  dead,
  vectorIndex,
  mayCount,
  codeRisk,
}: PipelineStatus): boolean =>
  (mayCount || codeRisk !== null) && (error !== null || failed + dead > 0 || vectorIndex === "failed");

export interface CutToday {
  relation: string;
  embedding: string;
  /** Texts embedded since midnight UTC, and how many of them were truncated. */
  texts: number;
  cutTexts: number;
}

/** Sums up, per pipeline, the texts that were embedded today. Reads no watched table. */
export async function cutToday(db: Pool | ClientBase): Promise<CutToday[]> {
  const { rows } = await db.query<CutToday>(`
select embedd.name_of(p.relation) as relation,
  p.embedding_column as embedding,
  sum(u.texts)::float8 as texts,
  sum(u.cut_texts)::float8 as "cutTexts"
from embedd.usage u
join embedd.pipelines p on p.id = u.pipeline_id
where u.day = (now() at time zone 'UTC')::date
group by p.id
having sum(u.texts) > 0
order by p.id`);
  return rows;
}

export interface WorkerCounts {
  live: number;
  /** Connected, but silent for 15 s: a stopped process, or a pooled connection that outlived its worker. */
  frozen: number;
  /** Live, but no notification has reached them for a minute, so they find rows by polling. */
  deaf: number;
}

/** Counts the connected workers. @returns null on a standby, which does not see the sessions of its primary */
export async function countWorkers(db: Pool | ClientBase): Promise<WorkerCounts | null> {
  const { rows } = await db.query<WorkerCounts & { standby: boolean }>(`
select pg_is_in_recovery() as standby,
  (count(*) filter (where state = 'live'))::integer as live,
  (count(*) filter (where state = 'frozen'))::integer as frozen,
  (count(*) filter (where state = 'live' and heard_at < now() - interval '1 minute'))::integer as deaf
from embedd.workers`);
  const { standby, ...counts } = rows[0] ?? { standby: false, live: 0, frozen: 0, deaf: 0 };
  return standby ? null : counts;
}

/** Counts the pending rows of all pipelines that a model may serve. */
export async function countPending(db: Pool | ClientBase, model: string): Promise<number> {
  const { rows } = await db.query<{ pending: number }>(
    `
select coalesce(sum(pending), 0)::float8 as pending
from embedd.status
where not paused
  and (error is null or gap is not null)
  and (model is null or model = $1)`,
    [model],
  );
  return rows[0]?.pending ?? 0;
}
