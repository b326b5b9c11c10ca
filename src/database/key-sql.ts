import { escapeLiteral } from "pg";
import type { Bind } from "./parameters.js";
import type { Pipeline, WorkKind } from "./pipeline.js";

/**
 * The condition under which a row `t` needs a vector: a pending row has none, a stale row one from another model,
 * and a refresh replaces every vector.
 * @param model the `$n` of the current model
 */
export function needsVector(pipeline: Pipeline, kind: WorkKind, model: string): string {
  if (kind === "pending") return `t.${pipeline.embedding} is null`;
  const other = kind === "stale" ? ` and t.${pipeline.modelColumn} is distinct from ${model}::text` : "";
  return `t.${pipeline.embedding} is not null${other}`;
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

/** Where a key lies relative to another: `t`'s key is below it, or the key itself or above. */
export type KeyComparison = "<" | ">=";

/**
 * Compares the key of a row `t` with the one in `parameter`, in the order of the primary key's index. Where the
 * operators are not in pg_catalog, row comparison would not find them, so each column is compared by itself.
 */
export function keyCompares(pipeline: Pipeline, comparison: KeyComparison, parameter: string): string {
  const { keys } = pipeline;
  if (hasOrderedKeys(pipeline)) {
    const columns = keys.map((key) => `t.${key.column}`).join(", ");
    return `row(${columns}) ${comparison} ${keyRow(pipeline, parameter)}`;
  }
  const value = (i: number) => `(${parameter}::text[])[${i + 1}]::${(keys[i]?.arrayType ?? "").slice(0, -2)}`;
  const compare = (i: number, operator: string) =>
    `t.${keys[i]?.column ?? ""} ${(keys[i]?.equals ?? "").replace("=)", `${operator})`)} ${value(i)}`;
  const strict = comparison === "<" ? "<" : ">";
  const from = (i: number): string =>
    i === keys.length - 1
      ? compare(i, comparison)
      : `(${compare(i, strict)} or (${compare(i, "=")} and ${from(i + 1)}))`;
  // The first column alone lets the index find the range.
  return `${compare(0, `${strict}=`)} and ${from(0)}`;
}

/**
 * Whether the pipeline still has these columns and makes its texts of them in this way. switch-model gives a
 * column's name to another column in one transaction, and watch changes what a text is made of; a statement waits for
 * their lock before it takes its snapshot, so it sees all of the change or none.
 */
export function columnsAreCurrent(pipeline: Pipeline, idParameter: string): string {
  return `exists (select from embedd.pipelines p where p.id = ${idParameter}
    and p.relation = ${escapeLiteral(pipeline.relation)}::regclass
    and quote_ident(p.embedding_column) = ${escapeLiteral(pipeline.embedding)}
    and quote_ident(p.model_column) = ${escapeLiteral(pipeline.modelColumn)}
    and p.content_columns = array[${pipeline.contentNames.map(escapeLiteral).join(", ")}]
    and p.template is not distinct from ${pipeline.template === null ? "null" : escapeLiteral(pipeline.template)})`;
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
