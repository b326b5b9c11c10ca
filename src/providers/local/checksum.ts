import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { configurationError, messageOf } from "../../errors.js";

/** Few reads for a 45 MB file, and about 1 ms per hash update. */
const READ_BYTES = 1 << 20;

const verified = new Map<string, Promise<void>>();

/**
 * Compares a file's SHA-256 with the expected one. Each process streams a file once: later calls share the
 * first result, unless that call failed.
 * @throws EmbeddError `configuration`/`model_checksum` when it differs or the file cannot be read
 */
export function verifyChecksum(path: string, sha256: string): Promise<void> {
  const key = `${sha256} ${path}`;
  const known = verified.get(key);
  if (known) return known;
  const checking = compare(path, sha256);
  verified.set(key, checking);
  checking.catch(() => verified.delete(key));
  return checking;
}

async function compare(path: string, expected: string): Promise<void> {
  const actual = await sha256Of(path).catch((error: unknown) => {
    throw checksumError(`cannot read the model's weights: ${messageOf(error)}`);
  });
  if (actual === expected) return;
  throw checksumError(`${path} is damaged: its SHA-256 is ${actual}, expected ${expected}`);
}

/** A file's SHA-256, in hexadecimal. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES })) {
    hash.update(chunk as Buffer);
  }
  return hash.digest("hex");
}

function checksumError(message: string): Error {
  return configurationError("model_checksum", message, "npm ci");
}
