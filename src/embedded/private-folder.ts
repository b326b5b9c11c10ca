import { existsSync } from "node:fs";
import { chmod, lstat, mkdir, readdir, readlink, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { configurationError } from "../errors.js";
import { shellWord } from "../shell-word.js";
import { ANOTHER_FOLDER } from "./cannot-start.js";

const PRIVATE = 0o700;
const WRITABLE_BY_OTHERS = 0o022;
const WRITABLE_BY_EVERYBODY = 0o002;
/** Only a file's owner can remove or rename it, as in /tmp. */
const STICKY = 0o1000;

/**
 * Makes the folder that holds the database, the claim files and the password file. Of an existing one it takes only the
 * right of others to write: the folder may hold more than embedded PostgreSQL, such as a project. A link is followed:
 * whoever made it chose the folder.
 * @throws EmbeddError `embedded_start` if another user could exchange what is in the folder
 */
export async function makeFolder(folder: string): Promise<void> {
  await makeFolders(folder);
  const found = await stat(folder);
  if (!found.isDirectory()) refuse(folder, "is not a folder");
  const us = process.getuid?.();
  if (us === undefined) return;
  const { uid, mode } = found;
  if (uid !== us && uid !== 0) refuse(folder, ANOTHER_USERS);
  if ((mode & STICKY) !== 0) return;
  if (uid === us) {
    if ((mode & WRITABLE_BY_OTHERS) !== 0) await chmod(folder, mode & 0o7777 & ~WRITABLE_BY_OTHERS);
  } else if ((mode & WRITABLE_BY_EVERYBODY) !== 0) {
    // The root of a mounted volume is root's, who may have given it to this user's group.
    refuse(
      folder,
      "is open to every user, who could exchange the database in it",
      `sudo chmod +t ${shellWord(folder)}  # then only its owner may rename a file\n${ANOTHER_FOLDER}`,
    );
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
 * Closes the data directory, if it exists, to other users. PGlite writes files that everybody may read and write, so the
 * directory must keep them out.
 * @throws EmbeddError `embedded_start` if it belongs to another user, or is not a database: it is left as it is
 */
export async function closeToOthers(dataDir: string): Promise<void> {
  const found = await lstat(dataDir).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  });
  if (!found) return;
  if (found.isSymbolicLink()) {
    refuse(
      dataDir,
      "is a symbolic link. Only the folder around the database may be one",
      `mv ${shellWord(dataDir)} ${shellWord(`${dataDir}.link`)}\n${ANOTHER_FOLDER}`,
    );
  }
  if (!found.isDirectory()) refuse(dataDir, "is not a folder");
  const us = process.getuid?.();
  if (us !== undefined && found.uid !== us) refuse(dataDir, ANOTHER_USERS);
  const names = await readdir(dataDir);
  if (names.length > 0 && !names.includes("PG_VERSION")) {
    refuse(dataDir, "holds files that are not a database");
  }
  if (us !== undefined && (found.mode & 0o077) !== 0) await chmod(dataDir, PRIVATE);
}

const ANOTHER_USERS = "belongs to another user, who could read and change the database in it";

function refuse(path: string, why: string, hint = ANOTHER_FOLDER): never {
  throw configurationError("embedded_start", `${shellWord(path)} ${why}`, hint);
}
