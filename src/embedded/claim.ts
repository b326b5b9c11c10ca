import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * One process at a time may open a data directory. Each that wants to writes a claim, a file of its own
 * next to the directory (`server-<random>.json`), then looks for others: if another living process has one,
 * it takes its own away again. Of two that start together at least one sees the other, so never both
 * believe to be alone; and as nobody deletes anything but his own claim and those of the dead, there is no
 * moment at which a fresh claim can be taken for the stale one that stood in its place before.
 */
export interface Claim {
  /** Tells the others where the database is served. */
  publish(port: number): Promise<void>;
  release(): Promise<void>;
}

interface ClaimFile {
  pid: number;
  /** Tells a process from an earlier one with the same number, as after a container's restart. */
  startedAt: string | undefined;
  /** Not there while the database is being opened. */
  port?: number;
}

const FILE = /^server-.*\.json$/;

/** Claims made by this very process, whose number says nothing about whether they are still held. */
const ours = new Set<string>();

/** Clock ticks since boot at which a process started; unknown outside Linux. */
async function startTimeOf(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1");
    // The name in brackets may hold spaces; the 22nd field is the 20th after it.
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

async function isHeld(path: string, claim: ClaimFile): Promise<boolean> {
  if (claim.pid === process.pid) return ours.has(path);
  return exists(claim.pid) && (await startTimeOf(claim.pid)) === claim.startedAt;
}

async function write(path: string, claim: ClaimFile): Promise<void> {
  const draft = `${path}.${randomUUID()}.tmp`;
  await writeFile(draft, `${JSON.stringify(claim)}\n`, { flag: "wx", mode: 0o600 });
  await rename(draft, path);
}

async function read(path: string): Promise<ClaimFile | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as ClaimFile;
  } catch (error) {
    // Its owner took it away while we looked.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Another living process's claim in the folder, `"starting"` while it has no port; stale ones are removed. */
export async function findServer(folder: string, except?: string): Promise<number | "starting" | undefined> {
  let found: number | "starting" | undefined;
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    if (!FILE.test(name) || path === except) continue;
    const claim = await read(path);
    if (!claim) continue;
    if (!(await isHeld(path, claim))) await rm(path, { force: true });
    else if (typeof found !== "number") found = claim.port ?? "starting";
  }
  return found;
}

/** Claims the folder, or says that another process has it. */
export async function claimFolder(folder: string): Promise<Claim | undefined> {
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
