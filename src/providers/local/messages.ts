import type { ErrorCode } from "../../error-codes.js";
import type { BusyFlag } from "./busy-flag.js";
import type { ModelSource } from "./manifest.js";

export interface ModelOptions {
  source: ModelSource;
  /** Intra-op threads of ONNX Runtime. */
  threads: number;
}

/** Passed to the session thread at its start. */
export interface ThreadOptions {
  model: ModelOptions;
  busy: BusyFlag;
}

/** A padded micro-batch: `ids` is [lengths.length, length], row by row. */
export interface RunRequest {
  type: "run";
  id: number;
  ids: Int32Array;
  /** Tokens of each row, without padding. */
  lengths: Int32Array;
  length: number;
}

export type Request = RunRequest | { type: "close" };

/** A failure as plain data: across the thread boundary, an `EmbeddError` would arrive as a plain `Error`. */
export interface PlainFailure {
  kind: "configuration" | "provider";
  code: ErrorCode;
  message: string;
  hint?: string;
}

export type Response =
  | { type: "ready" }
  | { type: "unusable"; failure: PlainFailure }
  /** `vectors` is [rows, dimensions], row by row. */
  | { type: "vectors"; id: number; vectors: Float32Array }
  | { type: "failed"; id: number; failure: PlainFailure };
