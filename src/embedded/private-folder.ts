import { chmod, mkdir, stat } from "node:fs/promises";
import { configurationError } from "../errors.js";
import { shellWord } from "../shell-word.js";

const PRIVATE = 0o700;
const WRITABLE_BY_OTHERS = 0o022;
/** Only a file's owner can remove or rename it, as in /tmp. */
const STICKY = 0o1000;

/**
 * Makes the folder that holds the database, the claim files and the password file. Of an existing one it takes only the
 * right of others to write: the folder may hold more than embedded PostgreSQL, such as a project.
 * @throws EmbeddError `embedded_start` if the folder is another user's, who could exchange what is in it
 */
export async function makeFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: PRIVATE });
  const us = process.getuid?.();
  if (us === undefined) return;
  const { uid, mode } = await stat(folder);
  // The root of a mounted volume is root's.
  if (uid !== us && uid !== 0) refuse(folder);
  if (uid === us && (mode & WRITABLE_BY_OTHERS) !== 0 && (mode & STICKY) === 0) {
    await chmod(folder, mode & 0o7777 & ~WRITABLE_BY_OTHERS);
  }
}

/**
 * Closes an existing data directory to other users. PGlite writes files that everybody may read and write, so the
 * directory must keep them out.
 * @throws EmbeddError `embedded_start` if it belongs to another user
 */
export async function closeToOthers(dataDir: string): Promise<void> {
  const us = process.getuid?.();
  if (us === undefined) return;
  const { uid, mode } = await stat(dataDir);
  if (uid !== us) refuse(dataDir);
  if ((mode & 0o077) !== 0) await chmod(dataDir, PRIVATE);
}

function refuse(path: string): never {
  throw configurationError(
    "embedded_start",
    `${shellWord(path)} belongs to another user, who could read and change the database in it`,
    'export EMBEDD_DATA_DIR="$HOME/.embedd"  # or another folder of your own',
  );
}
