import { escapeLiteral } from "pg";

/** A column name, quoted by the catalog, so that it can stand in a statement as it is. */
export type QuotedName = string;

export interface KeyColumn {
  column: QuotedName;
  /** The column's type as an array, such as `bigint[]`. */
  arrayType: string;
  /** Its btree equality, such as `operator(pg_catalog.=)`. */
  equals: string;
}

/** A watched embedding column as the catalog describes it now; every name in it is quoted. */
export interface Pipeline {
  id: number;
  /** `schema.table`, quoted. */
  relation: string;
  relationOid: number;
  /** Rows can be found by their place: not in a partitioned table, nor without the right to read `ctid`. */
  placeReadable: boolean;
  keys: KeyColumn[];
  /** The names as the catalog has them, for templates. */
  contentNames: string[];
  content: QuotedName[];
  template: string | null;
  embedding: QuotedName;
  /** `vector(384)` or `halfvec(384)`, with its schema where needed. */
  embeddingType: string;
  dimensions: number;
  /** The type `vector`, with its schema where needed, and its OID in this database. */
  vectorType: string;
  vectorOid: number;
  /** The schema of pgvector's types and operators. */
  vectorSchema: QuotedName;
  modelColumn: QuotedName;
  /** The only model that may serve it; null: whichever a worker runs. */
  model: string | null;
  /** The model that serves it, or did last. */
  servedModel: string | null;
  servedBy: number | null;
  /** Whether a worker that is connected serves it. */
  served: boolean;
  /** While its model is switched: the pipeline whose columns this one's are to replace. */
  shadowOf: number | null;
  paused: boolean;
  /** The vector index to build once the backlog is done. */
  indexMethod: string | null;
  /** What embedd.status says is wrong. */
  error: string | null;
  /** The condition of a row that waits; the partial index has the same. */
  pending: string;
  /** The part of it that is about the text. */
  hasText: string;
  /** Stale rows are embedded again. */
  reembed: boolean;
}

/** What is to be embedded: rows without a vector, or rows whose vector is of another model. */
export type WorkKind = "pending" | "stale";

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

/** Advisory lock classes (the bytes of four letters), told apart by the pipeline's or worker's id. */
export const GATE_CLASS = 0x656d6267; // 'embg'
export const PRESENCE_CLASS = 0x656d6270; // 'embp'
export const CLAIM_CLASS = 0x656d6263; // 'embc'
export const INDEX_CLASS = 0x656d6269; // 'embi'
export const USAGE_CLASS = 0x656d6275; // 'embu'
export const SWITCH_CLASS = 0x656d6278; // 'embx'

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
