import type { Pool } from "pg";
import type { RowVersion } from "../claim/claim.sql.js";
import {
  contentHash,
  isPresent,
  keyArrays,
  keyNames,
  keyText,
  keysMatch,
  waitsForVector,
} from "../../database/key-sql.js";
import type { Pipeline, WorkKind } from "../../database/pipeline.js";
import { vectorArrayToBinary } from "../../database/vector-array.js";

export interface EmbeddedRow extends RowVersion {
  embedding: Float32Array;
}

function inputColumns(pipeline: Pipeline): string {
  return pipeline.keys.map((key, i) => `$${i + 1}::${key.arrayType}`).join(", ");
}

/**
 * Whether vectors of a model may be written: the columns are still this pipeline's, and no other model has
 * taken it over. Where all connections share one session nobody knows which workers live, so the second
 * is not asked.
 */
function mayWrite(pipeline: Pipeline, id: string, model: string): string {
  return `${isPresent(pipeline, id)}
    and (select coalesce(p.model,
      case when current_setting('embedd.single_session', true) is distinct from 'on' then p.served_model end,
      ${model}::text) = ${model}::text from embedd.pipelines p where p.id = ${id})`;
}

/**
 * Writes vectors back. A row is written only if its text is still the one that was embedded and it still
 * has no vector, or one of another model; one that an application holds locked is left out, so this never waits and never
 * deadlocks. The lease goes in the same statement, or keeps the keys that were not written.
 */
export function completeStatement(pipeline: Pipeline, kind: WorkKind): string {
  const n = pipeline.keys.length;
  const [vectors, hashes, model = "", lease, id] = [1, 2, 3, 4, 5].map((i) => `$${n + i}`);
  const left = "select unnest(l.keys) except select key from written";
  return `
with input as (
  select * from unnest(${inputColumns(pipeline)}, ${vectors}::${pipeline.vectorType}[], ${hashes}::bytea[])
    as u (${keyNames(pipeline)}, embedding, hash)
), locked as materialized (
  select ${keyNames(pipeline, "u.")}, u.embedding
  from input u join ${pipeline.relation} t on ${keysMatch(pipeline, "t", "u")}
  where ${waitsForVector(pipeline, kind, model)} and ${contentHash(pipeline)} = u.hash
    and ${mayWrite(pipeline, `${id}`, model)}
  for no key update of t skip locked
), written as (
  update ${pipeline.relation} t
  set ${pipeline.embedding} = l.embedding::${pipeline.embeddingType}, ${pipeline.modelColumn} = ${model}::text
  from locked l where ${keysMatch(pipeline, "t", "l")}
  returning ${keyText(pipeline)} as key
), cleared as (
  delete from embedd.failures f where f.pipeline_id = ${id} and f.key in (select key from written)
), released as (
  delete from embedd.leases l where l.id = ${lease}::bigint and not exists (${left})
), kept as (
  update embedd.leases l set keys = array(${left})
  where l.id = ${lease}::bigint and exists (${left})
)
select key from written`;
}

export interface Completion {
  kind: WorkKind;
  leaseId: string;
  model: string;
  rows: readonly EmbeddedRow[];
}

/** Writes the vectors that can be written now; returns the key texts of those. */
export async function complete(
  pool: Pool,
  pipeline: Pipeline,
  { kind, leaseId, model, rows }: Completion,
): Promise<Set<string>> {
  const result = await pool.query<{ key: string }>(completeStatement(pipeline, kind), [
    ...keyArrays(pipeline, rows),
    vectorArrayToBinary(
      rows.map((row) => row.embedding),
      pipeline.vectorOid,
    ),
    rows.map((row) => row.hash),
    model,
    leaseId,
    pipeline.id,
  ]);
  return new Set(result.rows.map((row) => row.key));
}

/** Of rows that were not written, the key texts of those that still wait for this very vector: they are locked. */
export async function stillWaiting(
  pool: Pool,
  pipeline: Pipeline,
  { kind, model, rows }: { kind: WorkKind; model: string; rows: readonly RowVersion[] },
): Promise<Set<string>> {
  const n = pipeline.keys.length;
  const result = await pool.query<{ key: string }>(
    `
select ${keyText(pipeline)} as key
from unnest(${inputColumns(pipeline)}, $${n + 1}::bytea[]) as u (${keyNames(pipeline)}, hash)
join ${pipeline.relation} t on ${keysMatch(pipeline, "t", "u")}
where ${waitsForVector(pipeline, kind, `$${n + 3}`)} and ${contentHash(pipeline)} = u.hash
  and ${mayWrite(pipeline, `$${n + 2}`, `$${n + 3}`)}`,
    [...keyArrays(pipeline, rows), rows.map((row) => row.hash), pipeline.id, model],
  );
  return new Set(result.rows.map((row) => row.key));
}
