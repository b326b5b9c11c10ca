/** Why PGlite failed, in the words and codes of Node.js; PGlite's own errors are numbers, or name no cause. */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { getSystemErrorMap } from "node:util";
import { messageOf } from "../errors.js";

/** PGlite's numbers (those of WASI) for what the file system may refuse. */
const ERRNO: Readonly<Record<number, string>> = {
  2: "EACCES",
  19: "EDQUOT",
  20: "EEXIST",
  22: "EFBIG",
  29: "EIO",
  31: "EISDIR",
  32: "ELOOP",
  33: "EMFILE",
  37: "ENAMETOOLONG",
  41: "ENFILE",
  44: "ENOENT",
  48: "ENOMEM",
  51: "ENOSPC",
  54: "ENOTDIR",
  55: "ENOTEMPTY",
  63: "EPERM",
  69: "EROFS",
};

export interface Failure {
  message: string;
  /** Of the file system, such as `ENOSPC`. */
  code?: string | undefined;
}

/** @returns the reason that a line of PostgreSQL's standard error gives for its end */
export const lastWordsIn = (line: string): string | undefined =>
  /(?:FATAL|PANIC|^postgres): +(.+)/.exec(line)?.[1];

/** @param lastWords of PostgreSQL */
export function failureOf(error: unknown, lastWords?: string): Failure {
  const { name, errno, code } = Object(error) as Record<string, unknown>;
  const known = name === "ErrnoError" ? ERRNO[Number(errno)] : undefined;
  const message = known === undefined ? messageOf(error) : `${known}: ${words(known)}`;
  return {
    message: lastWords === undefined ? message : `${message}: ${lastWords}`,
    code: known ?? (typeof code === "string" && /^E[A-Z]+$/.test(code) ? code : undefined),
  };
}

/** As Node.js puts it. */
function words(code: string): string {
  const found = [...getSystemErrorMap().values()].find(([name]) => name === code);
  return found?.[1] ?? "a call of the file system failed";
}

/** More than what a disk has left after a write that it refused. */
const PROBE_BYTES = 1_048_576;

/** The code of the error with which a folder refuses files: PostgreSQL has only printed what stopped it. */
export async function refusalOf(folder: string): Promise<string | undefined> {
  const probe = join(folder, "embedd.probe");
  try {
    await writeFile(probe, Buffer.alloc(PROBE_BYTES));
    return undefined;
  } catch (error) {
    return failureOf(error).code;
  } finally {
    await rm(probe, { force: true }).catch(() => undefined);
  }
}
