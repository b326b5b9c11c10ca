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
