import type { Pool } from "pg";
import { mayBeRows } from "../../database/isolate.js";
import { keyText, needsVector, sameFailure } from "../../database/key-sql.js";
import { parameters } from "../../database/parameters.js";
import type { Pipeline, WorkKind } from "../../database/pipeline.js";
import { inTransaction } from "../../database/transaction.js";
import { READ_NO_TEXT, markUnreadable } from "../claim/mark-unreadable.sql.js";
import type { RefusedRow } from "../rows.js";

export interface RetryPolicy {
  /** Failed attempts after which a row is dead. */
  maxAttempts: number;
  /** Before the second attempt; doubles from one attempt to the next, with jitter, up to `maxDelayMs`. */
  baseDelayMs: number;
  maxDelayMs: number;
}

/**
 * Charges each of these rows, all of one batch, with one failure. Attempts count for one text: another text
 * starts at one.
 */
export async function chargeFailures(
  pool: Pool,
  pipelineId: number,
  refused: readonly RefusedRow[],
  { kind, maxAttempts, baseDelayMs, maxDelayMs }: RetryPolicy & { kind: WorkKind },
): Promise<void> {
  if (refused.length === 0) return;
  const { values, bind } = parameters();
  const p = {
    pipeline: bind(pipelineId),
    keys: bind(refused.map(({ row }) => row.keyText)),
    hashes: bind(refused.map(({ row }) => row.hash)),
    codes: bind(refused.map(({ code }) => code)),
    messages: bind(refused.map(({ message }) => message)),
    unreadable: bind(refused.map(({ unreadable }) => unreadable === true)),
    stale: bind(kind !== "pending"),
    refresh: bind(kind === "refresh"),
    maxAttempts: bind(maxAttempts),
    baseDelayMs: bind(baseDelayMs),
    maxDelayMs: bind(maxDelayMs),
  };
  const jitter = "(0.5 + random() / 2)";
  // In the order of their keys, so that two workers never deadlock.
  await pool.query(
    `
insert into embedd.failures as f (
  pipeline_id, key, content_hash, code, error, next_attempt_at, dead, stale, unreadable, refresh)
select ${p.pipeline}, u.key, u.hash, u.code, u.message,
  now() + ${jitter} * ${p.baseDelayMs}::float8 * interval '1 ms', ${p.maxAttempts}::integer <= 1, ${p.stale},
  u.unreadable, ${p.refresh}
from unnest(
    ${p.keys}::text[], ${p.hashes}::bytea[], ${p.codes}::text[], ${p.messages}::text[], ${p.unreadable}::boolean[])
  as u (key, hash, code, message, unreadable)
order by u.key
on conflict (pipeline_id, key) do update set
  content_hash = excluded.content_hash,
  code = excluded.code,
  error = excluded.error,
  failed_at = now(),
  stale = excluded.stale,
  unreadable = excluded.unreadable,
  refresh = excluded.refresh,
  attempts = case when f.content_hash = excluded.content_hash then least(f.attempts + 1, 1000000000) else 1 end,
  next_attempt_at = case
    when f.content_hash = excluded.content_hash then now()
      + ${jitter} * least(${p.baseDelayMs} * 2.0 ^ least(f.attempts, 30), ${p.maxDelayMs}::float8) * interval '1 ms'
    else excluded.next_attempt_at end,
  dead = case
    when f.content_hash = excluded.content_hash then f.attempts + 1 >= ${p.maxAttempts}
    else excluded.dead end`,
    values,
  );
}

/** Records rows that are nothing but white space, until their text changes. */
export async function recordBlank(
  pool: Pool,
  pipelineId: number,
  rows: readonly RefusedRow[],
): Promise<void> {
  await chargeFailures(pool, pipelineId, rows, {
    kind: "pending",
    maxAttempts: 1,
    baseDelayMs: 0,
    maxDelayMs: 0,
  });
}

/**
 * Removes failures that were due when a sweep began, `sweepMs` ago, and that it did not find: their rows are gone
 * or embedded. A dead failure goes once no row still needs a vector for the text that failed. A sweep of pending
 * rows tells nothing about failures of rows with an old vector, unless those are no longer re-embedded. A sweep of stale
 * rows does not find rows that a refresh failed to embed and that name the current model: their dead failures stay while
 * they have a vector for that text, and the others while the refresh runs.
 * @param model the current one
 */
export async function forgetSettledFailures(
  pool: Pool,
  pipeline: Pipeline,
  work: SettledWork,
): Promise<void> {
  try {
    await forget(pool, pipeline, work);
  } catch (error) {
    if (!mayBeRows(error)) throw error;
    await markUnreadable(pool, pipeline, work);
    await forget(pool, pipeline, work, READ_NO_TEXT);
  }
}

interface SettledWork {
  kind: Exclude<WorkKind, "refresh">;
  model: string;
  sweepMs: number;
}

async function forget(
  pool: Pool,
  pipeline: Pipeline,
  { kind, model, sweepMs }: SettledWork,
  settings = "",
): Promise<void> {
  const { values, bind } = parameters();
  const p = {
    pipeline: bind(pipeline.id),
    sweepMs: bind(sweepMs),
    stale: bind(kind === "stale"),
    model: bind(model),
    pending: bind(kind === "pending"),
  };
  const refreshFailed = `${keyText(pipeline)} in (
      select f.key from embedd.failures f where f.pipeline_id = ${p.pipeline} and f.dead and f.refresh)`;
  const unembedded =
    kind === "pending"
      ? pipeline.pending
      : `(${needsVector(pipeline, "stale", p.model)} or (${needsVector(pipeline, "refresh", p.model)} and ${refreshFailed}))`;
  const text = `
with unsettled as materialized (
  select ${keyText(pipeline)} as key
  from ${pipeline.relation} t
  where ${unembedded}
    and exists (
      select from embedd.failures f
      where f.pipeline_id = ${p.pipeline} and f.dead and f.stale = ${p.stale})
    and ${keyText(pipeline)} in (
      select f.key from embedd.failures f
      where f.pipeline_id = ${p.pipeline} and f.dead)
    and exists (
      select from embedd.failures f
      where f.pipeline_id = ${p.pipeline} and f.key = ${keyText(pipeline)} and ${sameFailure(pipeline)})
)
delete from embedd.failures f
where f.pipeline_id = ${p.pipeline}
  and ${p.model}::text is not null
  and (f.stale = ${p.stale} or (${p.pending} and not f.dead and not exists (
    select from embedd.pipelines p
    where p.id = ${p.pipeline} and (p.reembed or p.refresh_started_at is not null))))
  and case
    when f.dead then f.key not in (select key from unsettled)
    else f.next_attempt_at < now() - ${p.sweepMs} * interval '1 ms'
      and not (f.refresh and exists (
        select from embedd.pipelines p where p.id = ${p.pipeline} and p.refresh_started_at is not null))
      and not exists (
        select from embedd.leases l
        where l.pipeline_id = ${p.pipeline} and f.key = any (l.keys))
    end`;
  await inTransaction(pool, async (client) => {
    if (settings !== "") await client.query(settings);
    await client.query(text, values);
  });
}
