/** What the thread that runs PGlite is asked for, and what it answers. */
import type { Failure } from "./thread-error.js";

export interface ThreadOptions {
  /** @default in memory */
  dataDir?: string;
  /** A tarball to start from. */
  tarball?: ArrayBuffer;
  extraParams: string[];
}

export type Work = { type: "execute"; bytes: Uint8Array } | { type: "dump" } | { type: "close" };

export type Request = { id: number } & Work;

/** `id` 0: the start. */
export type Response = { id: number } & (
  | { type: "chunk"; bytes: Uint8Array }
  | { type: "done"; tarball?: ArrayBuffer }
  | ({ type: "failed" } & Failure)
);

/** A new database, until it is complete: a crash midway leaves nothing that looks like a database. */
export const unfinishedOf = (dataDir: string): string => `${dataDir}.unfinished`;
