import { randomUUID } from "node:crypto";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { configurationError, messageOf } from "../errors.js";
import { shellWord } from "../shell-word.js";
import { distrust, readSmallFile } from "../small-file.js";
import { writePrivate } from "./password-file.js";
import type { Access } from "./password-file.js";
import { removeAtExit } from "./remove-at-exit.js";

/**
 * Only one process at a time may open a data directory. Each candidate writes its own lock file next to the
 * directory (`server-<random>.json`) and then looks for others; if another living process has one, it removes
 * its own. Of two processes that start together, at least one sees the other, so both can never believe they
 * are alone. File names are random and processes delete only their own files and those of dead processes, so a
 * stale file is never mistaken for a new one.
 */
export interface DirectoryLock {
  /** Publishes how the database is reached, to commands of the same user. */
  publish(access: Access): Promise<void>;
  /** Says that the database cannot be reached any more, so that others wait for the release. */
  withdraw(): Promise<void>;
  release(): Promise<void>;
}

const lockFile = z.strictObject({
  pid: z.int().positive(),
  /** Distinguishes processes that share a pid, as after a container's restart. */
  startedAt: z.string().optional(),
  /** Absent while the database is opened or stopped. */
  access: z.object({ port: z.int().min(1).max(65_535), password: z.string().regex(/^\w+$/) }).optional(),
});
type LockFile = z.infer<typeof lockFile>;

/** A lock file has a few hundred bytes. */
const MOST_BYTES = 10_000;
/** A folder may hold files of a project too, such as server-config.json. */
const FILE = /^server-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json$/;

/** Lock files that this process holds; its own pid cannot tell whether a file is still in use. */
const ours = new Set<string>();

/** A process's start time in clock ticks since boot; undefined outside Linux. */
async function startTimeOf(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1");
    // The name in parentheses can contain spaces. Field 22 is the 20th after it.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function isHeld(path: string, file: LockFile): Promise<boolean> {
  if (file.pid === process.pid) return ours.has(path);
  return exists(file.pid) && (await startTimeOf(file.pid)) === file.startedAt;
}

const write = (path: string, file: LockFile): Promise<void> =>
  writePrivate(path, `${JSON.stringify(file)}\n`);

/** Whoever wrote the file says where the database is, so it must be this user's or root's. */
function read(path: string): LockFile | undefined {
  let reason: string | null;
  try {
    const file = readSmallFile(path, MOST_BYTES);
    reason = distrust(file);
    if (reason === null) return lockFile.parse(JSON.parse(file.text));
  } catch (error) {
    // Its owner has just removed it.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    reason = error instanceof z.ZodError ? "it is not a claim of embedd" : messageOf(error);
  }
  throw configurationError(
    "embedded_start",
    `the file that tells where embedded PostgreSQL listens cannot be trusted: ${shellWord(path)}: ${reason}`,
    `rm -f ${shellWord(path)}`,
  );
}

/**
 * How to reach the server of the living process that holds the folder, or `"starting"` while it has none. Removes stale
 * files.
 * @throws EmbeddError `embedded_start` for a file that another user wrote or could have written
 */
export async function findServer(folder: string, except?: string): Promise<Access | "starting" | undefined> {
  let found: Access | "starting" | undefined;
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    if (!FILE.test(name) || path === except) continue;
    const file = read(path);
    if (!file) continue;
    if (!(await isHeld(path, file))) await rm(path, { force: true });
    else if (typeof found !== "object") found = file.access ?? "starting";
  }
  return found;
}

/** Locks an existing folder. @returns undefined if another process holds it */
export async function lockFolder(folder: string): Promise<DirectoryLock | undefined> {
  const path = join(folder, `server-${randomUUID()}.json`);
  const startedAt = await startTimeOf(process.pid);
  const claim = (access?: Access): Promise<void> =>
    write(path, { pid: process.pid, startedAt, ...(access && { access }) });
  const remove = removeAtExit(path);
  const release = async (): Promise<void> => {
    await remove();
    ours.delete(path);
  };
  ours.add(path);
  try {
    await claim();
    if ((await findServer(folder, path)) !== undefined) {
      await release();
      return undefined;
    }
  } catch (error) {
    await release();
    throw error;
  }
  return { publish: claim, withdraw: () => claim(), release };
}
