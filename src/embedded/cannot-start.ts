import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { configurationError, EmbeddError, messageOf } from "../errors.js";
import { shellWord } from "../shell-word.js";

/** The hint that always helps: in a folder of the user's own, nothing is in the way. */
export const ANOTHER_FOLDER = 'export EMBEDD_DATA_DIR="$HOME/.embedd"  # or another folder of your own';

/** A new one takes 40 MB, and a large transaction as much again. */
const NEW_DATABASE_MB = 100;

/** Says why the database of this directory is not served, and what to type. */
export async function cannotStart(error: unknown, dataDir: string): Promise<EmbeddError> {
  if (error instanceof EmbeddError) return error;
  const hint = await hintFor(Object(error) as { code?: unknown; path?: unknown }, dataDir);
  return new EmbeddError(`embedded PostgreSQL cannot start in ${shellWord(dataDir)}: ${messageOf(error)}`, {
    kind: "configuration",
    code: "embedded_start",
    hint,
    cause: error,
  });
}

async function hintFor({ code, path }: { code?: unknown; path?: unknown }, dataDir: string): Promise<string> {
  const place = nearest(typeof path === "string" ? dirname(path) : dataDir);
  switch (code) {
    case "ENOSPC":
    case "EDQUOT":
      return `df -h ${shellWord(place)}  # free ${NEW_DATABASE_MB} MB there, and run the command again\n${ANOTHER_FOLDER}`;
    case "EACCES":
    case "EPERM":
      return (await isClosedByOwner(place))
        ? `chmod u+rwx ${shellWord(place)}\n${ANOTHER_FOLDER}`
        : ANOTHER_FOLDER;
    case "EROFS":
      return ANOTHER_FOLDER;
    default:
      // The database is broken, or another program's.
      return existsSync(join(dataDir, "PG_VERSION"))
        ? `mv ${shellWord(dataDir)} ${shellWord(`${dataDir}.broken`)}`
        : ANOTHER_FOLDER;
  }
}

async function isClosedByOwner(folder: string): Promise<boolean> {
  const { uid, mode } = await stat(folder);
  return uid !== 0 && uid === process.getuid?.() && (mode & 0o700) !== 0o700;
}

/** The path, or the folder above it that there is. */
function nearest(path: string): string {
  return existsSync(path) ? path : nearest(dirname(path));
}

/** For a database in memory. */
export function cannotWrite(error: unknown, folder: string): EmbeddError {
  return configurationError(
    "embedded_start",
    `embedded PostgreSQL cannot write its password file to ${shellWord(folder)}: ${messageOf(error)}`,
    'export TMPDIR="$HOME"  # or another folder of your own, on a disk with free space',
  );
}
