import type { ErrorCode } from "../error-codes.js";
import type { Pipeline } from "../database/pipeline.js";

/** A row as a claim leases it: its text has not been read yet. */
export interface LeasedKey {
  /** Text form of the whole key, as leases and failures store it. */
  keyText: string;
  /** Text form of each key column. */
  key: string[];
  /** Identifies this version of the row without its text. */
  version: Buffer;
}

/** A leased row as SQL returns it. */
export interface KeyResult {
  key_text: string;
  version: Buffer;
  [key: `k${number}`]: string | null;
}

export const leasedKeyOf = (pipeline: Pipeline, row: KeyResult): LeasedKey => ({
  keyText: row.key_text,
  key: pipeline.keys.map((_, i) => row[`k${i + 1}`] ?? ""),
  version: row.version,
});

/** A row and the text it had when it was read: what identifies it on its way from claim to write. */
export interface RowVersion {
  /** Text form of the whole key, as leases and failures store it. */
  keyText: string;
  /** Text form of each key column. */
  key: string[];
  /** SHA-256 of the content columns; of an unreadable row, its version. */
  hash: Buffer;
  /** Its text takes long to hash, so it is written alone: a write keeps its rows locked until it ends. */
  large?: boolean;
}

export interface ClaimedRow extends RowVersion {
  /** Text form of each content column, cut one character after `maxChars`; null where the column is null. */
  content: (string | null)[];
}

export interface EmbeddedRow extends RowVersion {
  embedding: Float32Array;
}

/**
 * The code of a pending row that is nothing but white space. Its entry in embedd.failures keeps claims from taking it
 * again; it counts as blank, not as failed.
 */
export const WHITE_SPACE: ErrorCode = "white_space";

/** A row that cannot be embedded or written as it is. */
export interface RefusedRow {
  row: RowVersion;
  code: string;
  /** Contains no text of the row. */
  message: string;
  /** PostgreSQL could not read the row. */
  unreadable?: true;
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
