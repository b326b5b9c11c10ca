/**
 * The subset of PostgreSQL's wire protocol (version 3.0) that sharing one session requires.
 * https://www.postgresql.org/docs/current/protocol-message-formats.html
 */

/** One backend message: a type byte, a length that includes itself, and a body. */
export interface BackendMessage {
  type: string;
  bytes: Buffer;
}

const HEADER_BYTES = 5;

/** How the next message of a stream begins. */
export interface MessageFormat {
  headerBytes: number;
  /** The whole message's length, from its header; or what is wrong with it. */
  lengthOf: (header: Buffer) => number | string;
}

/**
 * Splits a stream of chunks into whole messages, which are copies. After a wrong header the stream cannot be read further.
 * @param format of the next message
 * @returns takes a chunk, and returns what is wrong with a header
 */
export function createSplitter(
  format: () => MessageFormat,
  onMessage: (bytes: Buffer) => void,
): (chunk: Uint8Array) => string | undefined {
  let parts: Buffer[] = [];
  let held = 0;
  let needed = 0;
  return (chunk) => {
    parts.push(Buffer.from(chunk));
    held += chunk.length;
    // Joins the chunks of a message once, when it is complete.
    if (held < needed) return undefined;
    let rest = parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts, held);
    for (;;) {
      const { headerBytes, lengthOf } = format();
      needed = headerBytes;
      if (rest.length < headerBytes) break;
      const length = lengthOf(rest);
      if (typeof length === "string") return length;
      needed = length;
      if (rest.length < length) break;
      onMessage(rest.subarray(0, length));
      rest = rest.subarray(length);
    }
    parts = rest.length > 0 ? [rest] : [];
    held = rest.length;
    return undefined;
  };
}

const backendFormat: MessageFormat = {
  headerBytes: HEADER_BYTES,
  lengthOf: (header) => 1 + header.readInt32BE(1),
};

/** Splits a stream of chunks into whole backend messages. */
export function createMessageSplitter(
  onMessage: (message: BackendMessage) => void,
): (chunk: Uint8Array) => void {
  return createSplitter(
    () => backendFormat,
    (bytes) => {
      onMessage({ type: String.fromCharCode(bytes[0] ?? 0), bytes });
    },
  );
}

function message(type: string, ...body: Buffer[]): Buffer {
  const head = Buffer.alloc(HEADER_BYTES);
  head.write(type, 0, "latin1");
  head.writeInt32BE(4 + body.reduce((sum, part) => sum + part.length, 0), 1);
  return Buffer.concat([head, ...body]);
}

function cString(text: string): Buffer {
  return Buffer.from(`${text}\0`, "utf8");
}

/** A simple query. */
export function queryMessage(sql: string): Buffer {
  return message("Q", cString(sql));
}

export function syncMessage(): Buffer {
  return message("S");
}

export function closeStatementMessage(name: string): Buffer {
  return message("C", Buffer.from("S"), cString(name));
}

/** An ErrorResponse as PostgreSQL would send it. */
export function errorResponse(severity: "ERROR" | "FATAL", code: string, text: string): Buffer {
  const fields = [`S${severity}`, `V${severity}`, `C${code}`, `M${text}`];
  return message("E", ...fields.map(cString), Buffer.from([0]));
}

/** Reads the text up to the next zero byte; `next` is the offset of the following field. */
export function readCString(bytes: Buffer, start: number): { text: string; next: number } {
  const end = bytes.indexOf(0, start);
  if (end === -1) return { text: bytes.toString("utf8", start), next: bytes.length };
  return { text: bytes.toString("utf8", start, end), next: end + 1 };
}

/**
 * Prefixes the names of prepared statements and portals, so that connections do not collide. Unnamed ones and
 * all other messages stay unchanged.
 * @returns the message and, for Parse, the statement's new name
 */
export function renameStatement(
  bytes: Buffer,
  prefix: string,
): { bytes: Buffer; statement: string | undefined } {
  const type = String.fromCharCode(bytes[0] ?? 0);
  const prefixed = (name: string): string => (name === "" ? "" : `${prefix}${name}`);
  if (type === "P" || type === "E") {
    const name = readCString(bytes, HEADER_BYTES);
    if (name.text === "") return { bytes, statement: undefined };
    const renamed = message(type, cString(prefixed(name.text)), bytes.subarray(name.next));
    return { bytes: renamed, statement: type === "P" ? prefixed(name.text) : undefined };
  }
  if (type === "B") {
    const portal = readCString(bytes, HEADER_BYTES);
    const statement = readCString(bytes, portal.next);
    if (portal.text === "" && statement.text === "") return { bytes, statement: undefined };
    const names = [cString(prefixed(portal.text)), cString(prefixed(statement.text))];
    return { bytes: message("B", ...names, bytes.subarray(statement.next)), statement: undefined };
  }
  if (type === "D" || type === "C") {
    const name = readCString(bytes, HEADER_BYTES + 1);
    if (name.text === "") return { bytes, statement: undefined };
    const kind = bytes.subarray(HEADER_BYTES, HEADER_BYTES + 1);
    return { bytes: message(type, kind, cString(prefixed(name.text))), statement: undefined };
  }
  return { bytes, statement: undefined };
}

/** CopyInResponse: asks for the rows of COPY FROM STDIN. It lists no columns; clients do not need them. */
export function copyInResponse(binary: boolean): Buffer {
  return message("G", Buffer.from([binary ? 1 : 0, 0, 0]));
}

export function copyFailMessage(reason: string): Buffer {
  return message("f", cString(reason));
}

/** The first `limit` bytes of SQL in a Query or Parse message, enough to recognize short commands. */
export function leadingSql(bytes: Buffer, limit = 4_096): string {
  const type = String.fromCharCode(bytes[0] ?? 0);
  if (type !== "Q" && type !== "P") return "";
  const start = type === "P" ? readCString(bytes, HEADER_BYTES).next : HEADER_BYTES;
  return bytes.toString("utf8", start, Math.min(bytes.length, start + limit));
}
