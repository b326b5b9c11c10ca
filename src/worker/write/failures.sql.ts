import type { Pool } from "pg";
import type { RowVersion } from "../claim/claim.sql.js";
import { contentHash, keyText, waitsForVector } from "../../database/key-sql.js";
import type { Pipeline, WorkKind } from "../../database/pipeline.js";

export interface RowFailure {
  kind: WorkKind;
  code: string;
  /** Holds no text of the row. */
  message: string;
  /** Failed attempts after which a row is dead. */
  maxAttempts: number;
  /** Before the second attempt; doubles from one attempt to the next, with jitter, up to `maxDelayMs`. */
  baseDelayMs: number;
  maxDelayMs: number;
}

/** Charges one row with a failure. Attempts count for one text: another text starts at one. */
export async function chargeFailure(
  pool: Pool,
  pipelineId: number,
  row: RowVersion,
  failure: RowFailure,
): Promise<{ attempts: number; dead: boolean }> {
  const result = await pool.query<{ attempts: number; dead: boolean }>(
    `
insert into embedd.failures as f (pipeline_id, key, content_hash, code, error, next_attempt_at, dead, stale)
values ($1, $2, $3, $4, $5, now() + (0.5 + random() / 2) * $7 * interval '1 ms', $6 <= 1, $9)
on conflict (pipeline_id, key) do update set
  content_hash = excluded.content_hash, code = excluded.code, error = excluded.error, failed_at = now(), stale = excluded.stale,
  attempts = case when f.content_hash = excluded.content_hash then f.attempts + 1 else 1 end,
  next_attempt_at = case when f.content_hash = excluded.content_hash
    then now() + (0.5 + random() / 2) * least($7 * 2.0 ^ least(f.attempts, 30), $8) * interval '1 ms'
    else excluded.next_attempt_at end,
  dead = case when f.content_hash = excluded.content_hash then f.attempts + 1 >= $6 else excluded.dead end
returning attempts, dead`,
    [
      pipelineId,
      row.keyText,
      row.hash,
      failure.code,
      failure.message,
      failure.maxAttempts,
      failure.baseDelayMs,
      failure.maxDelayMs,
      failure.kind === "stale",
    ],
  );
  const charged = result.rows[0];
  if (charged === undefined) throw new Error("a failure was not recorded");
  return charged;
}

/**
 * Removes entries that were due when a sweep began, `sweepMs` ago, and that it did not find: their rows are gone
 * or embedded. Dead ones go when no row waits any more with the text that failed. A sweep of pending rows says
 * nothing of stale ones, unless these are not to be embedded again.
 * @param model the present one
 */
export async function forgetSettledFailures(
  pool: Pool,
  pipeline: Pipeline,
  { kind, model, sweepMs }: { kind: WorkKind; model: string; sweepMs: number },
): Promise<void> {
  const waiting = kind === "pending" ? pipeline.pending : waitsForVector(pipeline, "stale", "$4");
  await pool.query(
    `
with waiting as materialized (
  select ${keyText(pipeline)} as key, ${contentHash(pipeline)} as hash from ${pipeline.relation} t
  where ${waiting} and exists (select from embedd.failures f where f.pipeline_id = $1 and f.dead and f.stale = $3)
    and ${keyText(pipeline)} in (select f.key from embedd.failures f where f.pipeline_id = $1 and f.dead)
)
delete from embedd.failures f
where f.pipeline_id = $1 and $4::text is not null
  and (f.stale = $3 or ($5 and not f.dead))
  and case
    when f.dead then (f.key, f.content_hash) not in (select key, hash from waiting)
    else f.next_attempt_at < now() - $2 * interval '1 ms'
      and not exists (select from embedd.leases l where l.pipeline_id = $1 and f.key = any (l.keys)) end`,
    [pipeline.id, sweepMs, kind === "stale", model, kind === "pending" && !pipeline.reembed],
  );
}
