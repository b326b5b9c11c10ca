import type { Pool } from "pg";
import { inTransaction } from "../../database/transaction.js";
import { takeTurn } from "../../database/turns.sql.js";

/** Limits for a whole database per day (UTC); null: no limit. */
export interface DailyLimits {
  tokens: number | null;
  usd: number | null;
}

export interface Spent {
  pipelineId: number;
  /** The day it was reserved on, in PostgreSQL's format; null: today. */
  day: string | null;
  model: string;
  requests: number;
  tokens: number;
  texts: number;
  cutTexts: number;
  /** Of a model in the worker's own process. */
  local: boolean;
  /** Reserved tokens to release. */
  reservedTokens: number;
  /** The cost of the difference: a reservation is booked at its full price. */
  usd: number;
}

const today = "(now() at time zone 'UTC')::date";

/**
 * Reserves some of today's tokens for one request, unless that would exceed a limit. Workers take turns, so the
 * limit also holds for all workers together.
 * @returns `msLeft`: milliseconds until the next day
 */
export async function reserveTokens(
  pool: Pool,
  { pipelineId, model, tokens, usd }: { pipelineId: number; model: string; tokens: number; usd: number },
  limits: DailyLimits,
): Promise<{ reserved: boolean; day: string; msLeft: number }> {
  return inTransaction(pool, async (client) => {
    await takeTurn(client, 0, "usage");
    const { rows } = await client.query<{ reserved: boolean; day: string; msLeft: number }>(
      `
with spent as (
  select coalesce(sum(tokens + reserved_tokens), 0) as tokens, coalesce(sum(usd), 0) as usd
  from embedd.usage
  where day = ${today} and not local
),
reserved as (
  insert into embedd.usage as u (pipeline_id, day, model, reserved_tokens, usd)
  select $1, ${today}, $2, $3::bigint, $4::numeric
  from spent
  where ($5::bigint is null or spent.tokens + $3::bigint <= $5::bigint)
    and ($6::numeric is null or spent.usd + $4::numeric <= $6::numeric)
  on conflict (day, pipeline_id, model, local) do update
    set reserved_tokens = u.reserved_tokens + excluded.reserved_tokens, usd = u.usd + excluded.usd
  returning true
)
select exists (select from reserved) as reserved, ${today}::text as day,
  (extract(epoch from (${today} + 1)::timestamp at time zone 'UTC' - now()) * 1000)::float8 as "msLeft"`,
      [pipelineId, model, tokens, usd, limits.tokens, limits.usd],
    );
    return rows[0] ?? { reserved: false, day: "", msLeft: 0 };
  });
}

/** Books what requests have spent, and releases what was reserved for them. */
export async function bookUsage(pool: Pool, entries: readonly Spent[]): Promise<void> {
  await pool.query(
    `
insert into embedd.usage as u (pipeline_id, day, model, local, requests, tokens, texts, cut_texts, reserved_tokens, usd)
select e.pipeline_id, coalesce(e.day, ${today}), e.model, e.local, e.requests, e.tokens, e.texts, e.cut_texts, 0, e.usd
from unnest(
    $1::integer[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::numeric[], $7::date[], $8::bigint[],
    $9::bigint[], $10::boolean[])
  as e (pipeline_id, model, requests, tokens, reserved_tokens, usd, day, cut_texts, texts, local)
on conflict (day, pipeline_id, model, local) do update set
  requests = u.requests + excluded.requests,
  tokens = u.tokens + excluded.tokens,
  texts = u.texts + excluded.texts,
  cut_texts = u.cut_texts + excluded.cut_texts,
  usd = u.usd + excluded.usd,
  reserved_tokens = greatest(u.reserved_tokens - (
    select sum(e.reserved_tokens)
    from unnest($1::integer[], $2::text[], $5::bigint[], $7::date[], $10::boolean[])
      as e (pipeline_id, model, reserved_tokens, day, local)
    where e.pipeline_id = u.pipeline_id and e.model = u.model and e.local = u.local
      and coalesce(e.day, ${today}) = u.day), 0)`,
    [
      entries.map((entry) => entry.pipelineId),
      entries.map((entry) => entry.model),
      entries.map((entry) => entry.requests),
      entries.map((entry) => entry.tokens),
      entries.map((entry) => entry.reservedTokens),
      entries.map((entry) => entry.usd),
      entries.map((entry) => entry.day),
      entries.map((entry) => entry.cutTexts),
      entries.map((entry) => entry.texts),
      entries.map((entry) => entry.local),
    ],
  );
}
