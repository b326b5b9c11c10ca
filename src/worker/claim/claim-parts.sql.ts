import { PRESENCE_CLASS } from "../../database/advisory-locks.js";
import {
  keyNames,
  keyOrder,
  keyOut,
  keyText,
  keysAs,
  rowVersion,
  sameFailure,
  shapeIsCurrent,
} from "../../database/key-sql.js";
import type { Bind } from "../../database/parameters.js";
import type { Pipeline } from "../../database/pipeline.js";

/* What the two claims share; see claim.sql.ts. */

export interface ClaimOptions {
  worker: number;
  leaseMs: number;
  /** Characters that will be read of each content column. */
  maxChars: number;
  /**
   * About how many characters the claim may hold. One row from each end is taken however long it is, so a pending
   * claim has up to two such rows, and a stale claim has one.
   */
  maxClaimChars: number;
}

/** The newest end's share of a claim's characters, so that neither end of a backlog of long texts starves the other. */
const FRESH_CHARS = 0.25;

/** The `$n` of what both claims are given. */
export interface CommonParameters {
  pipeline: string;
  worker: string;
  leaseMs: string;
  maxChars: string;
  maxClaimChars: string;
}

export function bindCommon(pipeline: Pipeline, options: ClaimOptions, bind: Bind): CommonParameters {
  return {
    pipeline: bind(pipeline.id),
    worker: bind(options.worker),
    leaseMs: bind(options.leaseMs),
    maxChars: bind(options.maxChars),
    maxClaimChars: bind(options.maxClaimChars),
  };
}

/** Deletes void leases. `leased` and `not_due` are the keys that no claim may take. */
export function unavailable({ pipeline }: CommonParameters): string {
  return `void as (
  delete from embedd.leases
  where id in (
    select id
    from embedd.leases l
    where l.pipeline_id = ${pipeline}
      and (l.expires_at < now()
        or (current_setting('embedd.single_session', true) is distinct from 'on'
          and pg_try_advisory_xact_lock_shared(${PRESENCE_CLASS}, l.worker)))
    for update skip locked
  )
  returning id
),
leased as materialized (
  select unnest(l.keys) as key
  from embedd.leases l
  where l.pipeline_id = ${pipeline}
    and l.id not in (select id from void)
),
not_due as materialized (
  select f.key, f.content_hash, f.unreadable
  from embedd.failures f
  where f.pipeline_id = ${pipeline}
    and (f.dead or f.next_attempt_at > now())
)`;
}

/** Not leased, and neither dead nor backing off with this text. */
export function isFree(pipeline: Pipeline): string {
  const key = keyText(pipeline);
  return `${key} not in (select key from leased)
    and (${key} not in (select key from not_due)
      or not exists (select from not_due f where f.key = ${key} and ${sameFailure(pipeline)}))`;
}

/** A row's key and version, and about how many characters will be read of it. No text is read. */
export function candidateColumns(pipeline: Pipeline, { maxChars }: CommonParameters): string {
  const chars = pipeline.contentBytes.map((bytes) => `least(coalesce(${bytes}, 0), ${maxChars})`).join(" + ");
  return `${keysAs(pipeline, "t")}, ${keyText(pipeline)} as key_text, ${rowVersion(pipeline)} as version,
    ${chars} as chars`;
}

/** Leases as many `candidates` as the characters allow; those of a later `turn` are fresh. */
export function lease(pipeline: Pipeline, p: CommonParameters, direction: "asc" | "desc"): string {
  const keyTexts = pipeline.keys.map((key, i) => `${keyOut(key, `p.k${i + 1}`)} as k${i + 1}`).join(", ");
  return `each_once as (
  select distinct on (key_text) ${keyNames(pipeline)}, key_text, version, chars, turn > 1 as fresh
  from candidates
  order by key_text, turn
),
measured as (
  select *, row_number() over running as position, sum(chars) over running as total
  from each_once
  window running as (partition by fresh order by ${keyOrder(pipeline, "", direction)} rows unbounded preceding)
),
picked as (
  select *
  from measured
  where ${shapeIsCurrent(pipeline, p.pipeline)}
    and (position = 1
      or total <= ${p.maxClaimChars}::float8 * case when fresh then ${FRESH_CHARS} else ${1 - FRESH_CHARS} end)
),
lease as (
  insert into embedd.leases (pipeline_id, worker, keys, expires_at)
  select ${p.pipeline}, ${p.worker}, array_agg(key_text), now() + ${p.leaseMs} * interval '1 ms'
  from picked
  having count(*) > 0
  returning id
)
select lease.id::text as lease, p.key_text, p.version, p.fresh, ${keyTexts}
from picked p
cross join lease
order by p.fresh, ${keyOrder(pipeline, "p.", direction)}`;
}
