import { escapeLiteral } from "pg";
import type { Pipeline, WorkKind } from "./pipeline.js";

/** The condition of a row that a vector of `model`, a parameter, may be written to. Names are qualified by `t`. */
export function waitsForVector(pipeline: Pipeline, kind: WorkKind, model: string): string {
  return kind === "pending"
    ? `t.${pipeline.embedding} is null`
    : `t.${pipeline.embedding} is not null and t.${pipeline.modelColumn} is distinct from ${model}::text`;
}

/** Row comparison finds its operators by the search path, which has pg_catalog alone where keys are ordered. */
export function hasOrderedKeys(pipeline: Pipeline): boolean {
  return pipeline.keys.every((key) => key.equals === "operator(pg_catalog.=)");
}

/** A key in text form, a parameter, as a row of the key's types. */
export function keyRow(pipeline: Pipeline, parameter: string): string {
  return `row(${pipeline.keys.map((k, i) => `(${parameter}::text[])[${i + 1}]::${k.arrayType.slice(0, -2)}`).join(", ")})`;
}

/**
 * Whether the pipeline still has these very columns. A switch of the model gives a column's name to another in
 * one transaction; a statement waits for its lock before it takes its snapshot, so it sees either both or none.
 */
export function isPresent(pipeline: Pipeline, idParameter: string): string {
  return `exists (select from embedd.pipelines p where p.id = ${idParameter}
    and p.relation = ${escapeLiteral(pipeline.relation)}::regclass
    and quote_ident(p.embedding_column) = ${escapeLiteral(pipeline.embedding)}
    and quote_ident(p.model_column) = ${escapeLiteral(pipeline.modelColumn)})`;
}

/** The text form of a row's key, which leases and failures carry. */
export function keyText(pipeline: Pipeline, alias = "t"): string {
  const columns = pipeline.keys.map((key) => `${alias}.${key.column}`);
  return columns.length === 1 ? `${columns[0] ?? ""}::text` : `row(${columns.join(", ")})::text`;
}

/** SHA-256 over exactly the content columns; a record's text form tells NULL from empty and a|bc from ab|c. */
export function contentHash(pipeline: Pipeline, alias = "t"): string {
  const columns = pipeline.content.map((column) => `${alias}.${column}::text`);
  return `sha256(convert_to(row(${columns.join(", ")})::text, 'UTF8'))`;
}

/** `t.a = u.k1 and t.b = u.k2`, by the operators of the primary key's index. */
export function keysMatch(pipeline: Pipeline, left: string, right: string): string {
  return pipeline.keys
    .map((key, i) => `${left}.${key.column} ${key.equals} ${right}.k${i + 1}`)
    .join(" and ");
}

/** `a as k1, b as k2`. */
export function keysAs(pipeline: Pipeline, alias: string, cast = ""): string {
  return pipeline.keys.map((key, i) => `${alias}.${key.column}${cast} as k${i + 1}`).join(", ");
}

/** `k1, k2`, each with the prefix. */
export function keyNames(pipeline: Pipeline, prefix = ""): string {
  return pipeline.keys.map((_, i) => `${prefix}k${i + 1}`).join(", ");
}

/** `k1 desc, k2 desc`, each with the prefix. */
export function keyOrder(pipeline: Pipeline, prefix: string, direction: "asc" | "desc"): string {
  return pipeline.keys.map((_, i) => `${prefix}k${i + 1} ${direction}`).join(", ");
}

/** Arrays of keys, column by column, from keys row by row; all in text form. */
export function keyArrays(pipeline: Pipeline, rows: readonly { key: readonly string[] }[]): string[][] {
  return pipeline.keys.map((_, i) => rows.map((row) => row.key[i] ?? ""));
}
