import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

/** No key, setting or description of a model is longer. */
const MOST_BYTES = 1_048_576;

export interface SmallFile {
  text: string;
  /** The user that owns it; null: the system has no such users. */
  owner: number | null;
  /** Its permissions, as chmod takes them. */
  mode: number;
}

/**
 * Reads a file that whoever named it may not control: a FIFO or a device would never end, and a huge file fill the memory.
 * @param mostBytes the file is refused if it is larger
 * @throws an error of the file system, or `Error` with the reason
 */
export function readSmallFile(path: string, mostBytes = MOST_BYTES): SmallFile {
  // Without O_NONBLOCK, opening a FIFO waits for a writer.
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const found = fstatSync(file);
    if (!found.isFile()) throw new Error("it is not a regular file");
    const bytes = found.size > mostBytes ? null : readAtMost(file, mostBytes);
    if (bytes === null) throw new Error(`it has more than ${mostBytes} bytes`);
    const owner = process.getuid === undefined ? null : found.uid;
    return { text: bytes.toString("utf8"), owner, mode: found.mode & 0o777 };
  } finally {
    closeSync(file);
  }
}

/** A file may grow, and those of /proc do not say how long they are. @returns null if it is longer */
function readAtMost(file: number, mostBytes: number): Buffer | null {
  const chunks: Buffer[] = [];
  for (let read = 0; read <= mostBytes;) {
    const chunk = Buffer.alloc(65_536);
    const length = readSync(file, chunk);
    if (length === 0) return Buffer.concat(chunks);
    chunks.push(chunk.subarray(0, length));
    read += length;
  }
  return null;
}

/** Why a file of these properties may say what somebody else wants; null: only this user or root can have written it. */
export function distrust({ owner, mode }: SmallFile): string | null {
  if (owner !== null && owner !== 0 && owner !== process.getuid?.()) return "it belongs to another user";
  return owner !== null && (mode & 0o002) !== 0 ? "every user may write to it" : null;
}
