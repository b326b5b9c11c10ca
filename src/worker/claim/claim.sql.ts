import type { Pool } from "pg";
import { mayBeRows } from "../../database/isolate.js";
import {
  bindKeys,
  hasOrderedKeys,
  keyNames,
  keyRow,
  keysMatch,
  needsVector,
  typedKeys,
} from "../../database/key-sql.js";
import { parameters } from "../../database/parameters.js";
import type { Statement } from "../../database/parameters.js";
import type { Pipeline, WorkKind } from "../../database/pipeline.js";
import { inTransaction } from "../../database/transaction.js";
import { takeClaimTurn } from "../../database/turns.sql.js";
import { leasedKeyOf } from "../rows.js";
import type { KeyResult, LeasedKey } from "../rows.js";
import { bindCommon, candidateColumns, isFree, lease, unavailable } from "./claim-parts.sql.js";
import type { ClaimOptions } from "./claim-parts.sql.js";
import { READ_NO_TEXT, markUnreadable } from "./mark-unreadable.sql.js";

/*
 * The claims. Invariant: a row is in at most one lease, and a lease is void once its worker is gone or it has
 * expired, unless its rows are being written at this moment. Two claims of one pipeline never overlap: a row of
 * embedd.locks is locked before the statement's snapshot and for the few milliseconds of the transaction, so each
 * claim sees what the claim before it leased.
 *
 * A claim reads no text, so a row that PostgreSQL cannot read does not stop it: `readRows` reads the leased rows.
 * There are two exceptions, the text of a row that failed before and is backing off, and the condition of pending
 * rows where no index answers it. If they fail, the claim finds out which failed rows have become unreadable, and
 * runs again with a plan that reads the index alone.
 */

export interface Claim {
  leaseId: string;
  /** Pending rows: oldest key first, then those taken from the newest end. Stale rows: newest key first. */
  keys: LeasedKey[];
  /** Where the next claim continues: the last key, the rows from the newest end left out. */
  last: string[] | null;
}

export interface PendingOptions extends ClaimOptions {
  /** The current model. */
  model: string;
  /** Rows from the oldest end. */
  oldest: number;
  /** Rows from the newest end by key; in a long backlog, as many again from the end of the table. */
  newest: number;
  /** The oldest rows are taken after this key; null: from the first key. */
  cursor: string[] | null;
}

export interface StaleOptions extends ClaimOptions {
  kind: "stale" | "refresh";
  /** The current model. */
  model: string;
  /** Keys that a search found. Rows that need no vector any more, or are leased, are left out. */
  keys: readonly string[][];
}

/**
 * Where keys do not grow with time (UUIDs, composites), the rows written last are at the end of the table.
 * A batch writes 4 to 5 vectors per page, and must not push those rows out of this range.
 */
const LAST_PAGES = 256;

/** Leases up to `oldest + newest` pending rows; null if nothing is claimable. */
export function claimPending(pool: Pool, pipeline: Pipeline, options: PendingOptions): Promise<Claim | null> {
  return runClaim(pool, pipeline, { kind: "pending", model: options.model }, (carefully) =>
    pendingStatement(carefully ? { ...pipeline, ctidReadable: false } : pipeline, options),
  );
}

/** Leases rows with an old vector, newest key first; null if none of them is claimable. */
export function claimStale(pool: Pool, pipeline: Pipeline, options: StaleOptions): Promise<Claim | null> {
  return runClaim(pool, pipeline, { kind: options.kind, model: options.model }, () =>
    staleStatement(pipeline, options),
  );
}

/**
 * Keys are picked from the partial index alone. The cursor skips what earlier claims have just written; without
 * it, every claim would walk over the dead index entries of all claims before it.
 */
export function pendingStatement(pipeline: Pipeline, options: PendingOptions): Statement {
  const { values, bind } = parameters();
  const p = bindCommon(pipeline, options, bind);
  const [oldest, newest] = [bind(options.oldest), bind(options.newest)];
  const cursor = hasOrderedKeys(pipeline) ? options.cursor : null;
  const columns = candidateColumns(pipeline, p);
  const claimable = `${pipeline.pending}
    and ${isFree(pipeline)}`;
  const keys = pipeline.keys.map((key) => `t.${key.column}`);
  const afterCursor =
    cursor === null ? "" : `and row(${keys.join(", ")}) > ${keyRow(pipeline, bind(cursor))}`;
  const byPosition = cursor !== null && pipeline.ctidReadable;
  const lastWritten = `last_written as (
  select ${columns}
  from ${pipeline.relation} t
  where t.ctid >= (
      select format('(%s,0)', greatest(
        pg_relation_size(${pipeline.relationOid}::oid::regclass) / current_setting('block_size')::integer - ${LAST_PAGES},
        0))::tid)
    and ${claimable}
  order by t.ctid desc
  limit ${newest}
),`;
  const text = `
with ${unavailable(p)},
newest as (
  select ${columns}
  from ${pipeline.relation} t
  where ${claimable}
  order by ${keys.map((key) => `${key} desc`).join(", ")}
  limit ${newest}
),
oldest as (
  select ${columns}
  from ${pipeline.relation} t
  where ${claimable}
    ${afterCursor}
  order by ${keys.join(", ")}
  limit ${oldest}
),
${byPosition ? lastWritten : ""}
candidates as (
  select *, 1 as turn from oldest
  union all
  select *, 2 from newest
  ${byPosition ? "union all select *, 3 from last_written" : ""}
),
${lease(pipeline, p, "asc")}`;
  return { text, values };
}

/** The keys were found before the lock that claims take, so each row is checked again here. */
export function staleStatement(pipeline: Pipeline, options: StaleOptions): Statement {
  const { values, bind } = parameters();
  const p = bindCommon(pipeline, options, bind);
  // A refresh takes vectors of every model, and a statement may have no parameter that it does not use.
  const model = options.kind === "stale" ? bind(options.model) : "";
  // One row per key, so this limit drops none; it bounds what the planner expects.
  const count = bind(options.keys.length);
  const rows = options.keys.map((key) => ({ key }));
  const keys = bindKeys(pipeline, rows, bind);
  const text = `
with ${unavailable(p)},
candidates as (
  select c.*, 1 as turn
  from (
    select ${typedKeys(pipeline)}
    from unnest(${keys}) as u (${keyNames(pipeline)})
  ) as u
  cross join lateral (
    select ${candidateColumns(pipeline, p)}
    from ${pipeline.relation} t
    where ${keysMatch(pipeline, "t", "u")}
      and ${needsVector(pipeline, options.kind, model)}
      and ${isFree(pipeline)}
  ) as c
  limit ${count}
),
${lease(pipeline, p, "desc")}`;
  return { text, values };
}

interface ClaimResult extends KeyResult {
  lease: string;
  fresh: boolean;
}

async function runClaim(
  pool: Pool,
  pipeline: Pipeline,
  work: { kind: WorkKind; model: string },
  statement: (carefully: boolean) => Statement,
): Promise<Claim | null> {
  try {
    return await attemptClaim(pool, pipeline, statement(false));
  } catch (error) {
    if (!mayBeRows(error)) throw error;
    await markUnreadable(pool, pipeline, work);
    return attemptClaim(pool, pipeline, statement(true), READ_NO_TEXT);
  }
}

async function attemptClaim(
  pool: Pool,
  pipeline: Pipeline,
  { text, values }: Statement,
  settings = "",
): Promise<Claim | null> {
  const rows = await inTransaction(pool, async (client) => {
    await client.query(`set local search_path = pg_catalog; ${settings}`);
    await takeClaimTurn(client, pipeline);
    return (await client.query<ClaimResult>(text, values)).rows;
  });
  const [first] = rows;
  if (first === undefined) return null;
  const keys = rows.map((row) => leasedKeyOf(pipeline, row));
  const last = rows.findLastIndex((row) => !row.fresh);
  return { leaseId: first.lease, keys, last: keys[last]?.key ?? null };
}
