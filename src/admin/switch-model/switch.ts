import type { IndexState } from "../../database/build-index.sql.js";

/** A running switch to another model. Names are as the catalog has them, unless stated otherwise. */
export interface Switch {
  /** The pipeline that fills the new columns. */
  shadow: number;
  /** The pipeline whose columns they will replace. */
  pipeline: number;
  /** `schema.table`, quoted. */
  relation: string;
  embedding: string;
  modelColumn: string;
  nextEmbedding: string;
  nextModelColumn: string;
  fromModel: string;
  fromDimensions: number;
  toModel: string;
  toDimensions: number;
  indexMethod: string | null;
  /** False: a column it needs was dropped, so it can only be aborted; a dimension may be 0. */
  whole: boolean;
  /** The column will be pinned to its model after the swap, as it was before. */
  pinned: boolean;
  startedAt: Date;
  /** A connected worker of the new model serves it. */
  served: boolean;
  /** A connected worker of the old model serves the old columns. */
  oldServed: boolean;
  /** Why no worker can fill it. */
  error: string | null;
}

/** Counts of rows. */
export interface SwitchCounts {
  /** With text and no new vector. */
  pending: number;
  /** Pending rows that have an old vector, which the swap would take away. */
  behind: number;
  /** Rows behind that are no longer retried. */
  dead: number;
}

/** An index that the new columns need before the swap. */
export interface SwitchIndex {
  /** The old column's index, whose name it takes over; null: the pipeline's own index. */
  replaces: string | null;
  /** Its name until the swap. */
  name: string;
  state: IndexState;
  /** What follows ON table in CREATE INDEX, for the new columns. */
  definition: string;
  /** Its table or partition. */
  tableOid: string;
  /** That of the index it replaces; empty: the database's own. */
  tablespace: string;
}

export interface SwitchOptions {
  relation: string;
  embedding: string;
  /** The new model. Optional when resuming a switch. */
  model?: string | undefined;
  /** Dimensions of the new vectors. Optional when resuming a switch. */
  dimensions?: number | undefined;
  /** The pipeline's own index on the new column. @default the old column's */
  index?: "hnsw" | "none" | undefined;
  /** Swap once at most this many rows have an old vector but no new one. @default 100 */
  maxBehind?: number;
  /** Swap even if rows are dead under the new model; they lose their vector. */
  force?: boolean;
  /** Drop the old columns in the swap instead of renaming them to `<column>_previous`. */
  dropOld?: boolean;
  /** Milliseconds between two counts of the backlog. @default 1000 */
  pollMs?: number;
  /** Stops before the swap; the switch can be resumed. */
  signal?: AbortSignal | undefined;
}

export const SWITCH_DEFAULTS = { maxBehind: 100, pollMs: 1_000, force: false, dropOld: false };

/** The options with every default filled in. */
export type SwitchSettings = SwitchOptions & typeof SWITCH_DEFAULTS;

export type SwitchEvent =
  | { step: "begin"; running: Switch; resumed: boolean }
  | { step: "fill"; running: Switch; counts: SwitchCounts; texts: number; mostPending: number }
  | { step: "index"; running: Switch; index: SwitchIndex }
  | { step: "swap"; running: Switch };

export type SwitchListener = (event: SwitchEvent) => void;

export interface SwitchResult {
  running: Switch;
  /** How long the swap held its lock, in milliseconds. */
  lockedMs: number;
  /** The old columns' new names, quoted; null if they were dropped. */
  previous: string[] | null;
}
