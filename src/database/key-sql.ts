import { escapeLiteral } from "pg";
import type { Bind } from "./parameters.js";
import type { Pipeline, WorkKind } from "./pipeline.js";

/**
 * The condition under which a row `t` needs a vector: a pending row has none, a stale row one from another model.
 * @param model the `$n` of the current model
 */
export function needsVector(pipeline: Pipeline, kind: WorkKind, model: string): string {
  return kind === "pending"
    ? `t.${pipeline.embedding} is null`
    : `t.${pipeline.embedding} is not null and t.${pipeline.modelColumn} is distinct from ${model}::text`;
}

/**
 * Whether keys can be compared as rows. Row comparison finds its operators through the search path, and claims
 * run with pg_catalog alone in it.
 */
export function hasOrderedKeys(pipeline: Pipeline): boolean {
  return pipeline.keys.every((key) => key.equals === "operator(pg_catalog.=)");
}

/** A key as a row of the key's types. @param parameter the `$n` of the key's text form, a `text[]` */
export function keyRow(pipeline: Pipeline, parameter: string): string {
  return `row(${pipeline.keys.map((k, i) => `(${parameter}::text[])[${i + 1}]::${k.arrayType.slice(0, -2)}`).join(", ")})`;
}

/**
 * Whether the pipeline still has these columns. switch-model gives a column's name to another column in one
 * transaction; a statement waits for that lock before it takes its snapshot, so it sees all of the swap or none.
 */
export function columnsAreCurrent(pipeline: Pipeline, idParameter: string): string {
  return `exists (select from embedd.pipelines p where p.id = ${idParameter}
    and p.relation = ${escapeLiteral(pipeline.relation)}::regclass
    and quote_ident(p.embedding_column) = ${escapeLiteral(pipeline.embedding)}
    and quote_ident(p.model_column) = ${escapeLiteral(pipeline.modelColumn)})`;
}

/** The text form of a row's key, as leases and failures store it. */
export function keyText(pipeline: Pipeline, alias = "t"): string {
  const columns = pipeline.keys.map((key) => `${alias}.${key.column}`);
  return columns.length === 1 ? `${columns[0] ?? ""}::text` : `row(${columns.join(", ")})::text`;
}

/** SHA-256 of the content columns alone. A record's text form tells NULL from empty and a|bc from ab|c. */
export function contentHash(pipeline: Pipeline, alias = "t"): string {
  const columns = pipeline.content.map((column) => `${alias}.${column}::text`);
  return `sha256(convert_to(row(${columns.join(", ")})::text, 'UTF8'))`;
}

/** `t.a = u.k1 and t.b = u.k2`, with the operators of the primary key's index. */
export function keysMatch(pipeline: Pipeline, left: string, right: string): string {
  return pipeline.keys
    .map((key, i) => `${left}.${key.column} ${key.equals} ${right}.k${i + 1}`)
    .join(" and ");
}

/** `a as k1, b as k2`. */
export function keysAs(pipeline: Pipeline, alias: string, cast = ""): string {
  return pipeline.keys.map((key, i) => `${alias}.${key.column}${cast} as k${i + 1}`).join(", ");
}

/** `k1, k2`, each prefixed. */
export function keyNames(pipeline: Pipeline, prefix = ""): string {
  return pipeline.keys.map((_, i) => `${prefix}k${i + 1}`).join(", ");
}

/** `k1 desc, k2 desc`, each prefixed. */
export function keyOrder(pipeline: Pipeline, prefix: string, direction: "asc" | "desc"): string {
  return pipeline.keys.map((_, i) => `${prefix}k${i + 1} ${direction}`).join(", ");
}

/** `$1::bigint[], $2::date[]`: one array per key column, bound from one key per row in text form. */
export function bindKeys(
  pipeline: Pipeline,
  rows: readonly { key: readonly string[] }[],
  bind: Bind,
): string {
  return pipeline.keys
    .map((key, i) => `${bind(rows.map((row) => row.key[i] ?? ""))}::${key.arrayType}`)
    .join(", ");
}
