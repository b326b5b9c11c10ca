import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { configurationError, messageOf } from "../../errors.js";

/** Large enough that a 45 MB file takes few reads, small enough that one update takes about 1 ms. */
const READ_BYTES = 1 << 20;

const verified = new Map<string, Promise<void>>();

/**
 * Compares a file's SHA-256 with the one it must have, reading it in a stream and once a process: later
 * calls for the same file share the first one's answer, unless that was a refusal.
 * @throws EmbeddError `configuration`/`model_checksum` when it differs or cannot be read
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
    throw refusal(`cannot read the model's weights: ${messageOf(error)}`);
  });
  if (actual === expected) return;
  throw refusal(`${path} is damaged: its SHA-256 is ${actual}, it should be ${expected}`);
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES })) {
    hash.update(chunk as Buffer);
  }
  return hash.digest("hex");
}

function refusal(message: string): Error {
  return configurationError("model_checksum", message, "npm ci");
}
