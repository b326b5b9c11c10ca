import type { Pool } from "pg";
import { contentHash, keyText, needsVector } from "../../database/key-sql.js";
import { parameters } from "../../database/parameters.js";
import type { Pipeline, WorkKind } from "../../database/pipeline.js";
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
    stale: bind(kind !== "pending"),
    maxAttempts: bind(maxAttempts),
    baseDelayMs: bind(baseDelayMs),
    maxDelayMs: bind(maxDelayMs),
  };
  const jitter = "(0.5 + random() / 2)";
  // In the order of their keys, so that two workers never deadlock.
  await pool.query(
    `
insert into embedd.failures as f (pipeline_id, key, content_hash, code, error, next_attempt_at, dead, stale)
select ${p.pipeline}, u.key, u.hash, u.code, u.message,
  now() + ${jitter} * ${p.baseDelayMs}::float8 * interval '1 ms', ${p.maxAttempts}::integer <= 1, ${p.stale}
from unnest(${p.keys}::text[], ${p.hashes}::bytea[], ${p.codes}::text[], ${p.messages}::text[])
  as u (key, hash, code, message)
order by u.key
on conflict (pipeline_id, key) do update set
  content_hash = excluded.content_hash,
  code = excluded.code,
  error = excluded.error,
  failed_at = now(),
  stale = excluded.stale,
  attempts = case when f.content_hash = excluded.content_hash then f.attempts + 1 else 1 end,
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

/**
 * Removes failures that were due when a sweep began, `sweepMs` ago, and that it did not find: their rows are gone
 * or embedded. A dead failure goes once no row still needs a vector for the text that failed. A sweep of pending
 * rows tells nothing about failures of rows with an old vector, unless those are no longer re-embedded.
 * @param model the current one
 */
export async function forgetSettledFailures(
  pool: Pool,
  pipeline: Pipeline,
  { kind, model, sweepMs }: { kind: Exclude<WorkKind, "refresh">; model: string; sweepMs: number },
): Promise<void> {
  const { values, bind } = parameters();
  const p = {
    pipeline: bind(pipeline.id),
    sweepMs: bind(sweepMs),
    stale: bind(kind === "stale"),
    model: bind(model),
    pending: bind(kind === "pending"),
  };
  const unembedded = kind === "pending" ? pipeline.pending : needsVector(pipeline, "stale", p.model);
  await pool.query(
    `
with unembedded as materialized (
  select ${keyText(pipeline)} as key, ${contentHash(pipeline)} as hash
  from ${pipeline.relation} t
  where ${unembedded}
    and exists (
      select from embedd.failures f
      where f.pipeline_id = ${p.pipeline} and f.dead and f.stale = ${p.stale})
    and ${keyText(pipeline)} in (
      select f.key from embedd.failures f
      where f.pipeline_id = ${p.pipeline} and f.dead)
)
delete from embedd.failures f
where f.pipeline_id = ${p.pipeline}
  and ${p.model}::text is not null
  and (f.stale = ${p.stale} or (${p.pending} and not f.dead and not exists (
    select from embedd.pipelines p
    where p.id = ${p.pipeline} and (p.reembed or p.refresh_started_at is not null))))
  and case
    when f.dead then (f.key, f.content_hash) not in (select key, hash from unembedded)
    else f.next_attempt_at < now() - ${p.sweepMs} * interval '1 ms'
      and not exists (
        select from embedd.leases l
        where l.pipeline_id = ${p.pipeline} and f.key = any (l.keys))
    end`,
    values,
  );
}
