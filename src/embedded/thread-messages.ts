/** What the thread that runs PGlite is asked for, and what it answers. */

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
  | { type: "failed"; message: string }
);
