import { createHash, timingSafeEqual } from "node:crypto";
import { readCString } from "./protocol.js";
import type { MessageFormat } from "./protocol.js";

/*
 * What a client may send, before PGlite sees it: PGlite trusts lengths, and waits without an end for the rest of a message.
 * The limits are PostgreSQL's own (pqcomm.h, postgres.c) except the last one.
 */

/** MAX_STARTUP_PACKET_LENGTH. A password has the same limit. */
const STARTUP_BYTES = 10_000;
/** PQ_SMALL_MESSAGE_LIMIT: messages that hold a name at most. */
const SMALL_BYTES = 10_000;
/**
 * PostgreSQL allows 1 GB. PGlite has 2 GB of memory for everything and holds a message several times. embedd's own largest
 * messages, 2,048 vectors of 3,072 dimensions, have 80 MB.
 */
const LARGE_BYTES = 256 * 1024 * 1024;

const limitOf = (types: string, bytes: number): Record<string, number> =>
  Object.fromEntries(Array.from(types, (type) => [type, bytes]));

const LIMITS: Readonly<Record<string, number>> = {
  ...limitOf("QPBdF", LARGE_BYTES),
  ...limitOf("DECHSXcf", SMALL_BYTES),
};

/** Startup packets and requests for encryption, which have no type. */
export const startupFormat: MessageFormat = {
  headerBytes: 4,
  lengthOf(header) {
    const length = header.readInt32BE(0);
    return length >= 8 && length <= STARTUP_BYTES ? length : "invalid length of startup packet";
  },
};

export const passwordFormat: MessageFormat = {
  headerBytes: 5,
  lengthOf(header) {
    if (typeOf(header) !== "p") return "expected password response";
    const length = header.readInt32BE(1);
    return length >= 4 && length <= STARTUP_BYTES ? 1 + length : "invalid length of password";
  },
};

export const messageFormat: MessageFormat = {
  headerBytes: 5,
  lengthOf(header) {
    const limit = LIMITS[typeOf(header)];
    if (limit === undefined) return `invalid frontend message type ${header[0] ?? 0}`;
    const length = header.readInt32BE(1);
    return length >= 4 && length <= limit ? 1 + length : "invalid message length";
  },
};

const typeOf = (message: Buffer): string => String.fromCharCode(message[0] ?? 0);

/** What a client asks for in its first packets. */
export type Opening = "encryption" | "cancel" | "session" | { refusal: string };

const CANCEL = 80_877_102;
const SSL = 80_877_103;
const GSS = 80_877_104;
const VERSION_3_0 = 196_608;

/** Reads a startup packet or a request for encryption. */
export function readOpening(packet: Buffer): Opening {
  const code = packet.readInt32BE(4);
  if (code === SSL || code === GSS) return "encryption";
  if (code === CANCEL) return "cancel";
  if (code !== VERSION_3_0) {
    const version = `${code >>> 16}.${code & 0xffff}`;
    return { refusal: `unsupported frontend protocol ${version}: embedded PostgreSQL supports 3.0` };
  }
  const names = parameterNames(packet);
  if (names === undefined) return { refusal: "invalid startup packet layout" };
  if (names.includes("replication")) return { refusal: "embedded PostgreSQL has no replication" };
  return "session";
}

/** Undefined unless the packet is pairs of names and values with a zero byte behind each and behind the last. */
function parameterNames(packet: Buffer): string[] | undefined {
  const names: string[] = [];
  let at = 8;
  while (at < packet.length - 1) {
    const name = readCString(packet, at);
    const value = readCString(packet, name.next);
    if (name.text === "" || value.next > packet.length - 1) return undefined;
    names.push(name.text);
    at = value.next;
  }
  return at === packet.length - 1 && packet[at] === 0 ? names : undefined;
}

/** Whether a password message holds the password; takes the same time wherever they differ. */
export function hasPassword(message: Buffer, password: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(readCString(message, 5).text), digest(password));
}

/** AuthenticationCleartextPassword. */
export function passwordRequest(): Buffer {
  return Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 3]);
}
