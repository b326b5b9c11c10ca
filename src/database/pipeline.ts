/** A column name that the catalog has quoted; it can be put into a statement as it is. */
export type QuotedName = string;

export interface KeyColumn {
  column: QuotedName;
  /** The column's type, such as `bigint`; of a domain, the type below it. */
  type: string;
  /** It may hold bytes that are no text (SQL_ASCII), so it travels as hexadecimal digits. */
  bytes: boolean;
  /** Its btree equality, such as `operator(pg_catalog.=)`. */
  equals: string;
}

/** A watched embedding column as the catalog describes it now; every name in it is quoted. */
export interface Pipeline {
  id: number;
  /** `schema.table`, quoted. */
  relation: string;
  relationOid: number;
  /** Of the role that owns the table. */
  ownerOid: number;
  /** Whether rows can be found by their position (`ctid`): the table is not partitioned, and we may read it. */
  ctidReadable: boolean;
  /** Whether we may read the system columns that tell one version of a row from the next. */
  versionReadable: boolean;
  keys: KeyColumn[];
  /** The unquoted names, for templates. */
  contentNames: string[];
  content: QuotedName[];
  /** By content column: an estimate of its text's bytes that PostgreSQL makes without reading the text. */
  contentBytes: string[];
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
  /** The only model that may serve it; null: any. */
  model: string | null;
  /** The model that serves it, or served it last. */
  servedModel: string | null;
  servedBy: number | null;
  /** Whether a connected worker serves it. */
  served: boolean;
  /** Set on a shadow pipeline: the pipeline whose columns this one's will replace. */
  shadowOf: number | null;
  paused: boolean;
  /** Whether it is embedd.chunks, which every database has, and nobody has ever written to it. */
  unused: boolean;
  /** The vector index to build when the backlog is done. */
  indexMethod: string | null;
  /** The error that embedd.status shows. */
  error: string | null;
  /** Why vectors may be outdated, until `embedd repair`; null: they are not. */
  gap: string | null;
  /** What is missing now, so that edits may keep the vector of their old text; null: nothing. */
  gapNow: string | null;
  /** What `embedd repair` cures while the pipeline is served, and what to type; null: nothing. */
  problem: string | null;
  /** The condition of a pending row; the partial index has the same. */
  pending: string;
  /** The condition of a text that is not blank. Unlike `pending`, it reads long texts. */
  hasText: string;
  /** Whether stale rows are re-embedded. */
  reembed: boolean;
  /** Identifies the refresh that runs: its start, as text. null: none runs. */
  refreshStartedAt: string | null;
}

/** Which rows a batch embeds: those without a vector, those whose vector is from another model, or all that have one. */
export type WorkKind = "pending" | "stale" | "refresh";
