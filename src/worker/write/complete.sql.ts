import type { Pool } from "pg";
import { isolateFailing } from "../../database/isolate.js";
import {
  bindKeys,
  contentHash,
  inputRows,
  keyNames,
  keyText,
  keysMatch,
  needsVector,
  shapeIsCurrent,
} from "../../database/key-sql.js";
import { parameters } from "../../database/parameters.js";
import type { Statement } from "../../database/parameters.js";
import type { Pipeline, WorkKind } from "../../database/pipeline.js";
import { runStatement } from "../../database/transaction.js";
import { vectorArrayToBinary } from "../../database/vector-array.js";
import { usersSearchPath } from "../../database/pool.js";
import type { EmbeddedRow, RowVersion } from "../rows.js";

export interface Completion {
  kind: WorkKind;
  leaseId: string;
  model: string;
  rows: readonly EmbeddedRow[];
}

/**
 * Writes vectors back and shrinks the lease in one statement. A row is written only if its text is still the
 * one that was embedded, it still needs a vector and no other row has its key. A row that an application holds
 * locked is skipped, so this never waits and never deadlocks. A refresh does not write a vector that the row already
 * has. The lease ends, or keeps the keys that were not written.
 */
export function completeStatement(pipeline: Pipeline, { kind, leaseId, model, rows }: Completion): Statement {
  const { values, bind } = parameters();
  const keys = bindKeys(pipeline, rows, bind);
  const p = {
    vectors: bind(
      vectorArrayToBinary(
        rows.map((row) => row.embedding),
        pipeline.vectorOid,
      ),
    ),
    hashes: bind(rows.map((row) => row.hash)),
    model: bind(model),
    lease: bind(leaseId),
    pipeline: bind(pipeline.id),
  };
  const unwritten = "select unnest(l.keys) except select key from settled";
  const needs = `${needsVector(pipeline, kind, p.model)}
    and ${sameText(pipeline)}
    and (select count(*) from ${pipeline.relation} t where ${keysMatch(pipeline, "t", "u")}) = 1
    and ${mayWrite(pipeline, p)}
    and (select ${usersSearchPath}) is not null`;
  const equal = `(t.${pipeline.modelColumn} is not distinct from ${p.model}::text
    and t.${pipeline.embedding} operator(${pipeline.vectorSchema}.=) u.embedding::${pipeline.embeddingType})`;
  const unchanged =
    kind !== "refresh"
      ? ""
      : `union all
  select ${keyText(pipeline)}
  from input u
  join ${pipeline.relation} t on ${keysMatch(pipeline, "t", "u")}
  where ${needs}
    and ${equal}`;
  const text = `
with input as (
  ${inputRows(pipeline, keys, { embedding: `${p.vectors}::${pipeline.vectorType}[]`, hash: `${p.hashes}::bytea[]` })}
),
locked as materialized (
  select ${keyNames(pipeline, "u.")}, u.embedding
  from input u
  join ${pipeline.relation} t on ${keysMatch(pipeline, "t", "u")}
  where ${needs}
    ${kind === "refresh" ? `and not ${equal}` : ""}
  for no key update of t skip locked
),
written as (
  update ${pipeline.relation} t
  set ${pipeline.embedding} = l.embedding::${pipeline.embeddingType}, ${pipeline.modelColumn} = ${p.model}::text
  from locked l
  where ${keysMatch(pipeline, "t", "l")}
  returning ${keyText(pipeline)} as key
),
settled as (
  select key from written
  ${unchanged}
),
cleared as (
  delete from embedd.failures f
  where f.pipeline_id = ${p.pipeline} and f.key in (select key from settled)
),
released as (
  delete from embedd.leases l
  where l.id = ${p.lease}::bigint and not exists (${unwritten})
),
kept as (
  update embedd.leases l
  set keys = array(${unwritten})
  where l.id = ${p.lease}::bigint and exists (${unwritten})
)
select key from settled`;
  return { text, values };
}

/** Writes the vectors that can be written now; returns the key texts of their rows and of those that have them already. */
export async function completeRows(
  pool: Pool,
  pipeline: Pipeline,
  completion: Completion,
): Promise<Set<string>> {
  const { text, values } = completeStatement(pipeline, completion);
  const { rows } = await runStatement<{ key: string }>(pool, text, values);
  return new Set(rows.map((row) => row.key));
}

/**
 * Of rows that were not written, the key texts of those that still need this vector: an application holds them. A
 * row that PostgreSQL cannot read is left out.
 */
export async function findHeld(
  pool: Pool,
  pipeline: Pipeline,
  { kind, model, rows }: { kind: WorkKind; model: string; rows: readonly RowVersion[] },
): Promise<Set<string>> {
  const { results } = await isolateFailing(
    rows,
    (part) => heldAmong(pool, pipeline, { kind, model, rows: part }),
    () => Promise.resolve(),
  );
  return new Set(results);
}

async function heldAmong(
  pool: Pool,
  pipeline: Pipeline,
  { kind, model, rows }: { kind: WorkKind; model: string; rows: readonly RowVersion[] },
): Promise<string[]> {
  const { values, bind } = parameters();
  const keys = bindKeys(pipeline, rows, bind);
  const p = {
    hashes: bind(rows.map((row) => row.hash)),
    pipeline: bind(pipeline.id),
    model: bind(model),
  };
  const text = `
select ${keyText(pipeline)} as key
from (${inputRows(pipeline, keys, { hash: `${p.hashes}::bytea[]` })}) as u
join ${pipeline.relation} t on ${keysMatch(pipeline, "t", "u")}
where ${needsVector(pipeline, kind, p.model)}
  and ${sameText(pipeline)}
  and (select ${usersSearchPath}) is not null
  and ${mayWrite(pipeline, p)}`;
  const result = await runStatement<{ key: string }>(pool, text, values);
  return result.rows.map((row) => row.key);
}

/** IS TRUE keeps the planner from hashing the texts of other rows, which it does for a hash join. */
export const sameText = (pipeline: Pipeline): string => `(${contentHash(pipeline)} = u.hash) is true`;

/**
 * Whether vectors of a model may be written: the columns and the key are still this pipeline's, and no other model has
 * taken over. Where all connections share one session, it is unknown which workers are alive, so the served
 * model is not checked.
 */
export function mayWrite(pipeline: Pipeline, p: { pipeline: string; model: string }): string {
  return `${shapeIsCurrent(pipeline, p.pipeline)}
    and (
      select coalesce(
        p.model,
        case when current_setting('embedd.single_session', true) is distinct from 'on' then p.served_model end,
        ${p.model}::text) = ${p.model}::text
      from embedd.pipelines p
      where p.id = ${p.pipeline})`;
}
