/** A row and the text it had when it was claimed: what identifies it on its way from claim to write. */
export interface RowVersion {
  /** Text form of the whole key, as leases and failures store it. */
  keyText: string;
  /** Text form of each key column. */
  key: string[];
  /** SHA-256 of the content columns. */
  hash: Buffer;
}

export interface ClaimedRow extends RowVersion {
  /** Text form of each content column, cut one character after `maxChars`; null where the column is null. */
  content: (string | null)[];
}

export interface EmbeddedRow extends RowVersion {
  embedding: Float32Array;
}

/** A row that cannot be embedded or written as it is. */
export interface RefusedRow {
  row: RowVersion;
  code: string;
  /** Contains no text of the row. */
  message: string;
}

/** The result of writing rows whose vectors are ready. */
export interface WriteOutcome {
  written: number;
  /** Rows that were charged with a failure. */
  failed: number;
  /** Embedded, but locked by an application; still leased. */
  held: EmbeddedRow[];
}

export interface BatchOutcome extends WriteOutcome {
  /** Texts the model embedded; the other rows reused a cached vector. */
  computed: number;
  /** Rows released without an attempt, because the batch had more to compute than expected. */
  released: number;
  embedMs: number;
}
