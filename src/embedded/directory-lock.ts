import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * Only one process at a time may open a data directory. Each candidate writes its own lock file next to the
 * directory (`server-<random>.json`) and then looks for others; if another living process has one, it removes
 * its own. Of two processes that start together, at least one sees the other, so both can never believe they
 * are alone. File names are random and processes delete only their own files and those of dead processes, so a
 * stale file is never mistaken for a new one.
 */
export interface DirectoryLock {
  /** Publishes the port on which the database is served. */
  publish(port: number): Promise<void>;
  release(): Promise<void>;
}

interface LockFile {
  pid: number;
  /** Distinguishes processes that share a pid, as after a container's restart. */
  startedAt: string | undefined;
  /** Absent while the database is being opened. */
  port?: number;
}

const FILE = /^server-.*\.json$/;

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

async function write(path: string, file: LockFile): Promise<void> {
  const draft = `${path}.${randomUUID()}.tmp`;
  await writeFile(draft, `${JSON.stringify(file)}\n`, { flag: "wx", mode: 0o600 });
  await rename(draft, path);
}

async function read(path: string): Promise<LockFile | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as LockFile;
  } catch (error) {
    // Its owner has just removed it.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** The port of the living process that holds the folder, or `"starting"` before it has one. Removes stale files. */
export async function findServer(folder: string, except?: string): Promise<number | "starting" | undefined> {
  let found: number | "starting" | undefined;
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    if (!FILE.test(name) || path === except) continue;
    const file = await read(path);
    if (!file) continue;
    if (!(await isHeld(path, file))) await rm(path, { force: true });
    else if (typeof found !== "number") found = file.port ?? "starting";
  }
  return found;
}

/** Locks the folder. @returns undefined if another process holds it */
export async function lockFolder(folder: string): Promise<DirectoryLock | undefined> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, `server-${randomUUID()}.json`);
  const startedAt = await startTimeOf(process.pid);
  const release = async (): Promise<void> => {
    await rm(path, { force: true });
    ours.delete(path);
  };
  ours.add(path);
  try {
    await write(path, { pid: process.pid, startedAt });
    if ((await findServer(folder, path)) !== undefined) {
      await release();
      return undefined;
    }
  } catch (error) {
    await release();
    throw error;
  }
  return { publish: (port) => write(path, { pid: process.pid, startedAt, port }), release };
}
