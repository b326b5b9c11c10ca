import { escapeLiteral } from "pg";
import type { Bind } from "./parameters.js";
import type { KeyColumn, Pipeline, WorkKind } from "./pipeline.js";

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
  return `row(${pipeline.keys.map((k, i) => keyValue(k, `(${parameter}::text[])[${i + 1}]`)).join(", ")})`;
}

/** A key column's value as a text that can be sent to the client; `keyValue` reads it back. */
export function keyOut({ bytes }: KeyColumn, expression: string): string {
  const text = `${expression}::text`;
  return bytes ? `encode(convert_to(${text}, getdatabaseencoding()), 'hex')` : text;
}

/** The value of a key column from the text that `keyOut` made of it. */
function keyValue({ bytes, type }: KeyColumn, text: string): string {
  return `${bytes ? `convert_from(decode(${text}, 'hex'), getdatabaseencoding())` : text}::${type}`;
}

/**
 * Whether the pipeline still has these columns, makes its texts in this way, and its key still identifies a row. If it
 * did not, one vector could reach several rows.
 */
export function shapeIsCurrent(pipeline: Pipeline, idParameter: string): string {
  return `${columnsAreCurrent(pipeline, idParameter)}
    and ${definitionIsCurrent(pipeline, idParameter)}
    and ${keyIsUnique(pipeline)}`;
}

/** Whether the pipeline makes its texts of these columns and by this template. `watch` changes both under a lock. */
function definitionIsCurrent(pipeline: Pipeline, idParameter: string): string {
  return `exists (select from embedd.pipelines p where p.id = ${idParameter}
    and p.content_columns = array[${pipeline.contentNames.map(escapeLiteral).join(", ")}]
    and p.template is not distinct from ${pipeline.template === null ? "null" : escapeLiteral(pipeline.template)})`;
}

/** Whether a unique index of this moment has exactly the pipeline's key columns, and none of them is nullable. */
function keyIsUnique(pipeline: Pipeline): string {
  const names = pipeline.keys.map((key) => escapeLiteral(key.column)).join(", ");
  return `exists (
      select from pg_catalog.pg_index i
      where i.indrelid = ${escapeLiteral(pipeline.relation)}::regclass
        and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
        and i.indnkeyatts = ${pipeline.keys.length}
        and (
          select count(*)
          from pg_catalog.pg_attribute a
          where a.attrelid = i.indrelid
            and a.attnum = any ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
            and a.attnotnull
            and quote_ident(a.attname) in (${names})) = ${pipeline.keys.length})`;
}

/** Where a key lies relative to another: `t`'s key is below it, or the key itself or above. */
export type KeyComparison = "<" | ">=";

/**
 * Compares the key of a row `t` with the one in `parameter`, in the order of the primary key's index. Where the
 * operators are not in pg_catalog, row comparison would not find them, so each column is compared separately.
 */
export function keyCompares(pipeline: Pipeline, comparison: KeyComparison, parameter: string): string {
  const { keys } = pipeline;
  if (hasOrderedKeys(pipeline)) {
    const columns = keys.map((key) => `t.${key.column}`).join(", ");
    return `row(${columns}) ${comparison} ${keyRow(pipeline, parameter)}`;
  }
  const compare = (i: number, operator: string): string => {
    const key = keys[i];
    if (key === undefined) return "";
    const value = keyValue(key, `(${parameter}::text[])[${i + 1}]`);
    return `t.${key.column} ${key.equals.replace("=)", `${operator})`)} ${value}`;
  };
  const strict = comparison === "<" ? "<" : ">";
  const from = (i: number): string =>
    i === keys.length - 1
      ? compare(i, comparison)
      : `(${compare(i, strict)} or (${compare(i, "=")} and ${from(i + 1)}))`;
  // The first column alone lets the index find the range.
  return `${compare(0, `${strict}=`)} and ${from(0)}`;
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

/** Bytes that are valid UTF-8, as a regular expression reads them in a SQL_ASCII database. */
const UTF8 =
  "^([\\u0001-\\u007f]|[\\u00c2-\\u00df][\\u0080-\\u00bf]|\\u00e0[\\u00a0-\\u00bf][\\u0080-\\u00bf]" +
  "|[\\u00e1-\\u00ec\\u00ee\\u00ef][\\u0080-\\u00bf]{2}|\\u00ed[\\u0080-\\u009f][\\u0080-\\u00bf]" +
  "|\\u00f0[\\u0090-\\u00bf][\\u0080-\\u00bf]{2}|[\\u00f1-\\u00f3][\\u0080-\\u00bf]{3}" +
  "|\\u00f4[\\u0080-\\u008f][\\u0080-\\u00bf]{2})*$";

/** The text form of a row's key, as leases and failures store it: `\x` and hexadecimal digits if it is no valid UTF-8. */
export function keyText({ keys }: Pipeline, alias = "t"): string {
  const columns = keys.map((key) => `${alias}.${key.column}`);
  const text = columns.length === 1 ? `${columns[0] ?? ""}::text` : `row(${columns.join(", ")})::text`;
  if (!keys.some(({ bytes }) => bytes)) return text;
  return `case when ${text} collate "C" ~ '${UTF8}' then ${text}
      else '\\x' || encode(convert_to(${text}, getdatabaseencoding()), 'hex') end`;
}

/** What `keyOut` makes of a key column, from its text form in `keyText`. */
export function keyOutOf({ bytes }: KeyColumn, text: string): string {
  if (!bytes) return text;
  return text.startsWith("\\x") ? text.slice(2) : Buffer.from(text).toString("hex");
}

/**
 * SHA-256 of the content columns alone, hashed one by one: this tells NULL from empty and a|bc from ab|c, needs no
 * more memory than the longest text twice, and reads bytes that are no valid text in the client's encoding.
 */
export function contentHash(pipeline: Pipeline, alias = "t"): string {
  const hashes = pipeline.content.map(
    (column) =>
      `coalesce('\\x01'::bytea || sha256(convert_to(${alias}.${column}::text, getdatabaseencoding())), '\\x00'::bytea)`,
  );
  return `sha256(${hashes.join(" || ")})`;
}

/**
 * What tells this version of a row from the next, without reading its text. For a role that may not read system
 * columns, only the sizes of the content columns.
 */
export function rowVersion(pipeline: Pipeline, alias = "t"): string {
  const system = pipeline.versionReadable ? ["xmin", "ctid"] : [];
  const parts = [
    ...system.map((column) => `${alias}.${column}`),
    ...pipeline.content.map((column) => `coalesce(pg_column_size(${alias}.${column}), -1)`),
  ];
  return `convert_to(concat_ws(' ', ${parts.join(", ")}), 'UTF8')`;
}

/** Whether the failure `f` is of the row's text of this moment. A text that could not be read is not read again. */
export function sameFailure(pipeline: Pipeline, alias = "t"): string {
  return `f.content_hash = case when f.unreadable then ${rowVersion(pipeline, alias)} else ${contentHash(pipeline, alias)} end`;
}

/** `t.a = u.k1 and t.b = u.k2`, with the operators of the primary key's index. */
export function keysMatch(pipeline: Pipeline, left: string, right: string): string {
  return pipeline.keys
    .map((key, i) => `${left}.${key.column} ${key.equals} ${right}.k${i + 1}`)
    .join(" and ");
}

/** `a as k1, b as k2`. */
export function keysAs(pipeline: Pipeline, alias: string): string {
  return pipeline.keys.map((key, i) => `${alias}.${key.column} as k${i + 1}`).join(", ");
}

/** `a::text as k1, b::text as k2`: keys that can be sent to the client, and bound again. */
export function keysOut(pipeline: Pipeline, alias: string): string {
  return pipeline.keys.map((key, i) => `${keyOut(key, `${alias}.${key.column}`)} as k${i + 1}`).join(", ");
}

/** `array[a::text, b::text]`, likewise. */
export const keyArray = (pipeline: Pipeline, alias: string): string =>
  `array[${pipeline.keys.map((key) => keyOut(key, `${alias}.${key.column}`)).join(", ")}]`;

/** `k1, k2`, each prefixed. */
export function keyNames(pipeline: Pipeline, prefix = ""): string {
  return pipeline.keys.map((_, i) => `${prefix}k${i + 1}`).join(", ");
}

/** `k1 desc, k2 desc`, each prefixed. */
export function keyOrder(pipeline: Pipeline, prefix: string, direction: "asc" | "desc"): string {
  return pipeline.keys.map((_, i) => `${prefix}k${i + 1} ${direction}`).join(", ");
}

/** `$1::text[], $2::text[]`: one array per key column for `unnest`, bound from one key per row in text form. */
export function bindKeys(
  pipeline: Pipeline,
  rows: readonly { key: readonly string[] }[],
  bind: Bind,
): string {
  return pipeline.keys.map((_, i) => `${bind(rows.map((row) => row.key[i] ?? ""))}::text[]`).join(", ");
}

/**
 * `u.k1::bigint as k1, u.k2::date as k2`: the keys of `bindKeys` in their types. An array of an array type would
 * lose its inner dimensions in `unnest`, so each key is cast alone.
 */
export function typedKeys(pipeline: Pipeline, alias = "u"): string {
  return pipeline.keys.map((key, i) => `${keyValue(key, `${alias}.k${i + 1}`)} as k${i + 1}`).join(", ");
}

/**
 * Reads the rows of a statement's parameters: the keys of `bindKeys` in their types, and one column per entry of `columns`.
 * @param columns names, each with an array of as many values as there are keys
 */
export function inputRows(pipeline: Pipeline, keys: string, columns: Record<string, string>): string {
  const names = Object.keys(columns);
  return `select ${[typedKeys(pipeline), ...names.map((name) => `u.${name}`)].join(", ")}
    from unnest(${[keys, ...Object.values(columns)].join(", ")}) as u (${[keyNames(pipeline), ...names].join(", ")})`;
}
