import type { Pool } from "pg";
import { CLAIM_CLASS, PRESENCE_CLASS } from "../../database/advisory-locks.js";
import {
  contentHash,
  isPresent,
  keyNames,
  hasOrderedKeys,
  keyArrays,
  keyOrder,
  keyRow,
  keyText,
  keysAs,
  keysMatch,
  waitsForVector,
} from "../../database/key-sql.js";
import type { Pipeline, WorkKind } from "../../database/pipeline.js";
import { inTransaction } from "../../database/transaction.js";

/** A row that a worker has leased, told from its other versions. */
export interface RowVersion {
  /** Text form of the whole key, as leases and failures have it. */
  keyText: string;
  /** Text form of each key column. */
  key: string[];
  /** SHA-256 of the content columns. */
  hash: Buffer;
}

/** The same with its text, as it was when it was read. */
export interface ClaimedRow extends RowVersion {
  /** Text form of each content column, cut at the cap; null where the column is. */
  content: (string | null)[];
}

export interface Claim {
  leaseId: string;
  /** Oldest key first, then the rows that were taken from the newest end; of stale ones newest key first. */
  rows: ClaimedRow[];
  /** The key, without those of the newest end, after which the next claim goes on. */
  last: string[] | null;
}

export interface ClaimOptions {
  worker: number;
  leaseMs: number;
  /** Characters read of each content column. */
  maxChars: number;
  /** About as many characters as the whole claim may hold; one row is taken however long it is. */
  maxClaimChars: number;
}

export interface PendingOptions extends ClaimOptions {
  /** Rows from the oldest end; and from the newest, by key and, in a long backlog, by place. */
  oldest: number;
  newest: number;
  cursor: string[] | null;
}

export interface StaleOptions extends ClaimOptions {
  /** The present model. */
  model: string;
  /** Of rows that `findStale` has found; those that are stale no more, or leased, are left out. */
  keys: readonly string[][];
}

/**
 * Where keys do not grow with time (UUIDs, composites), what was written last stands at the end of the table.
 * The vectors of a batch, at 4 to 5 a page, must not push it out of sight.
 */
const LAST_PAGES = 256;

/** Of the characters of a claim, so that neither end of a backlog of long texts starves the other. */
const FRESH_CHARS = 0.25;

/**
 * The claim. Its invariant: a row is in at most one lease, and a lease is void when its worker is gone, unless
 * its rows are being written at this moment. Two claims of one pipeline never overlap (an advisory lock for
 * the few milliseconds of this transaction, taken before the statement's snapshot), so what one leased the
 * other sees. A text's length is taken from its bytes, which PostgreSQL knows without reading it.
 */
export function claimStatement(pipeline: Pipeline, kind: WorkKind, withCursor = false): string {
  const candidates = kind === "pending" ? pendingCandidates(pipeline, withCursor) : staleCandidates(pipeline);
  const names = (prefix = "") => keyOrder(pipeline, prefix, kind === "pending" ? "asc" : "desc");
  return `
with void as (
  delete from embedd.leases
  where id in (
    select id from embedd.leases l
    where l.pipeline_id = $1 and (l.expires_at < now()
      or (current_setting('embedd.single_session', true) is distinct from 'on'
        and pg_try_advisory_xact_lock_shared(${PRESENCE_CLASS}, l.worker)))
    for update skip locked)
  returning id
), taken as materialized (
  select unnest(l.keys) as key from embedd.leases l where l.pipeline_id = $1 and l.id not in (select id from void)
), waiting as materialized (
  select f.key, f.content_hash from embedd.failures f where f.pipeline_id = $1 and (f.dead or f.next_attempt_at > now())
), ${candidates}, each_once as (
  select distinct on (key_text) ${keyNames(pipeline)}, key_text, chars, turn > 1 as fresh from candidates order by key_text, turn
), measured as (
  select *, row_number() over running as place, sum(chars) over running as total from each_once
  window running as (partition by fresh order by ${names()} rows unbounded preceding)
), picked as (
  select * from measured
  where ${isPresent(pipeline, "$1")}
    and (place = 1 or total <= $7::float8 * case when fresh then ${FRESH_CHARS} else ${1 - FRESH_CHARS} end)
), lease as (
  insert into embedd.leases (pipeline_id, worker, keys, expires_at)
  select $1, $2, array_agg(key_text), now() + $3 * interval '1 ms' from picked having count(*) > 0
  returning id
)
select lease.id::text as lease, p.key_text, p.fresh,
  ${keysAs(pipeline, "t", "::text")},
  ${pipeline.content.map((column, i) => `left(t.${column}::text, $6) as c${i + 1}`).join(", ")},
  ${contentHash(pipeline)} as hash
from picked p join ${pipeline.relation} t on ${keysMatch(pipeline, "t", "p")} cross join lease
order by p.fresh, ${names("p.")}`;
}

/** A row's key and about how many characters are read of it. */
function candidate(pipeline: Pipeline): string {
  const chars = pipeline.content
    .map((column) => `least(coalesce(octet_length(t.${column}::text), 0), $6)`)
    .join(" + ");
  return `${keysAs(pipeline, "t")}, ${keyText(pipeline)} as key_text, ${chars} as chars`;
}

/** Neither leased nor waiting for its next attempt with this text. */
function free(pipeline: Pipeline): string {
  const key = keyText(pipeline);
  return `${key} not in (select key from taken)
      and (${key} not in (select key from waiting)
        or not exists (select from waiting w where w.key = ${key} and w.content_hash = ${contentHash(pipeline)}))`;
}

/**
 * The keys are picked from the partial index alone, the cursor skipping what earlier claims have just
 * written: without it every claim would walk over the dead entries of all before it.
 */
function pendingCandidates(pipeline: Pipeline, withCursor: boolean): string {
  const columns = candidate(pipeline);
  const claimable = `${pipeline.pending} and ${free(pipeline)}`;
  const order = pipeline.keys.map((k) => `t.${k.column}`);
  const byPlace = withCursor && pipeline.placeReadable;
  const lastWritten = `
  select ${columns} from ${pipeline.relation} t
  where t.ctid >= (select format('(%s,0)', greatest(
      pg_relation_size(${pipeline.relationOid}::oid::regclass) / current_setting('block_size')::integer - ${LAST_PAGES}, 0))::tid)
    and ${claimable}
  order by t.ctid desc limit $5`;
  return `newest as (
  select ${columns} from ${pipeline.relation} t
  where ${claimable}
  order by ${order.map((column) => `${column} desc`).join(", ")} limit $5
), oldest as (
  select ${columns} from ${pipeline.relation} t
  where ${claimable} ${withCursor ? `and row(${order.join(", ")}) > ${keyRow(pipeline, "$8")}` : ""}
  order by ${order.join(", ")} limit $4
), ${byPlace ? `last_written as (${lastWritten}),` : ""} candidates as (
  select ${keyNames(pipeline)}, key_text, chars, 1 as turn from oldest
  union all select ${keyNames(pipeline)}, key_text, chars, 2 from newest
  ${byPlace ? `union all select ${keyNames(pipeline)}, key_text, chars, 3 from last_written` : ""}
)`;
}

/** Rows by their keys, which were found outside of the lock that claims take. */
function staleCandidates(pipeline: Pipeline): string {
  const keys = pipeline.keys.map((k, i) => `$${8 + i}::${k.arrayType}`);
  return `candidates as (
  select c.*, 1 as turn
  from unnest(${keys.join(", ")}) as u (${keyNames(pipeline)})
  cross join lateral (
    select ${candidate(pipeline)} from ${pipeline.relation} t
    where ${keysMatch(pipeline, "t", "u")} and ${waitsForVector(pipeline, "stale", "$4")}
      and ${free(pipeline)}
  ) as c
  limit $5
)`;
}

interface ClaimResult {
  lease: string;
  key_text: string;
  fresh: boolean;
  hash: Buffer;
  [keyOrContent: `k${number}` | `c${number}`]: string | null;
}

/** Leases up to `oldest + newest` pending rows and reads them; null when nothing is claimable. */
export async function claim(pool: Pool, pipeline: Pipeline, options: PendingOptions): Promise<Claim | null> {
  const cursor = hasOrderedKeys(pipeline) ? options.cursor : null;
  const statement = claimStatement(pipeline, "pending", cursor !== null);
  const { oldest, newest } = options;
  return lease(pool, pipeline, options, statement, [oldest, newest, ...(cursor === null ? [] : [cursor])]);
}

/** Leases rows whose vectors are of another model and reads them, newest key first; null when none is left of them. */
export async function claimStale(
  pool: Pool,
  pipeline: Pipeline,
  options: StaleOptions,
): Promise<Claim | null> {
  const { model, keys } = options;
  const arrays = keyArrays(
    pipeline,
    keys.map((key) => ({ key })),
  );
  return lease(pool, pipeline, options, claimStatement(pipeline, "stale"), [model, keys.length, ...arrays]);
}

async function lease(
  pool: Pool,
  pipeline: Pipeline,
  options: ClaimOptions,
  statement: string,
  [first, second, ...others]: unknown[],
): Promise<Claim | null> {
  const { worker, leaseMs, maxChars, maxClaimChars } = options;
  const values = [pipeline.id, worker, leaseMs, first, second, maxChars, maxClaimChars, ...others];
  const rows = await inTransaction(pool, async (client) => {
    await client.query(
      `set local search_path = pg_catalog; select pg_advisory_xact_lock(${CLAIM_CLASS}, ${pipeline.id})`,
    );
    return (await client.query<ClaimResult>(statement, values)).rows;
  });
  const [head] = rows;
  if (head === undefined) return null;
  const key = (row: ClaimResult) => pipeline.keys.map((_, i) => row[`k${i + 1}`] ?? "");
  const last = rows.findLast((row) => !row.fresh);
  return {
    leaseId: head.lease,
    last: last === undefined ? null : key(last),
    rows: rows.map((row) => ({
      keyText: row.key_text,
      key: key(row),
      content: pipeline.content.map((_, i) => row[`c${i + 1}`] ?? null),
      hash: row.hash,
    })),
  };
}
