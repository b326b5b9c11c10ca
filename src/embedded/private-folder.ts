import { existsSync } from "node:fs";
import { chmod, mkdir, readlink, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { configurationError } from "../errors.js";
import { shellWord } from "../shell-word.js";
import { ANOTHER_FOLDER } from "./cannot-start.js";

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
  await makeFolders(folder);
  const us = process.getuid?.();
  if (us === undefined) return;
  const { uid, mode } = await stat(folder);
  // The root of a mounted volume is root's.
  if (uid !== us && uid !== 0) refuse(folder);
  if (uid === us && (mode & WRITABLE_BY_OTHERS) !== 0 && (mode & STICKY) === 0) {
    await chmod(folder, mode & 0o7777 & ~WRITABLE_BY_OTHERS);
  }
}

/** mkdir's own `recursive` loops without an end where the system makes no folders, as in /proc. */
async function makeFolders(path: string): Promise<void> {
  if (existsSync(path)) return;
  const target = await readlink(path).catch(() => undefined);
  if (target !== undefined) {
    const missing = resolve(dirname(path), target);
    throw configurationError(
      "embedded_start",
      `${shellWord(path)} is a symbolic link to ${shellWord(missing)}, which does not exist`,
      `mkdir -p ${shellWord(missing)}`,
    );
  }
  await makeFolders(dirname(path));
  await mkdir(path, { mode: PRIVATE }).catch((error: unknown) => {
    // Another process has made it meanwhile.
    if (!existsSync(path)) throw error;
  });
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
    ANOTHER_FOLDER,
  );
}
