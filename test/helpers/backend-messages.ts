import { readCString } from "#embedd/embedded/protocol.js";

/** Messages of PostgreSQL's wire protocol as a server sends them, made and read. */

/** `I`: idle, `T`: in a transaction, `E`: in a failed transaction. */
export function readyForQuery(status: "I" | "T" | "E"): Buffer {
  return Buffer.from(`Z\0\0\0\x05${status}`);
}

/** The message of an ErrorResponse. */
export function parseErrorMessage(bytes: Buffer): string {
  let at = 5;
  while (at < bytes.length && bytes[at] !== 0) {
    const field = readCString(bytes, at + 1);
    if (bytes[at] === "M".charCodeAt(0)) return field.text;
    at = field.next;
  }
  return "unknown error";
}
