import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PGlite } from "@electric-sql/pglite";
import type { PGliteOptions } from "@electric-sql/pglite";
import { vector } from "@electric-sql/pglite-pgvector";
import { configurationError, EmbeddError, messageOf } from "../errors.js";
import { findServer, lockFolder } from "./directory-lock.js";
import type { DirectoryLock } from "./directory-lock.js";
import { createSharedSession } from "./session.js";
import { listen } from "./socket-server.js";

export interface EmbeddedOptions {
  /** The data directory; its parent holds the lock file of the serving process. @default in memory */
  dataDir?: string;
  /** @default any free port of 127.0.0.1 */
  port?: number;
  /** Start from this tarball, made by `dump`; in memory only. */
  loadDataDir?: Blob;
}

/** Embedded PostgreSQL, open to every PostgreSQL client on this machine. */
export interface EmbeddedServer {
  connectionString: string;
  /** False: another process serves this directory, and `stop` does nothing. */
  owned: boolean;
  /** The data directory as a tarball for `loadDataDir`. Rejects unless `owned`. */
  dump(): Promise<Blob>;
  /** Disconnects clients, flushes to disk, and unlocks the directory. Idempotent. */
  stop(): Promise<void>;
}

/** Enough for a worker's pool and listeners, an application and a few psql sessions. */
const MAX_CONNECTIONS = 50;
const IDLE_IN_TRANSACTION_MS = 60_000;
/** The first start runs initdb: 3 to 10 s on a busy machine. */
const START_DEADLINE_MS = 60_000;

function settings(options: PGliteOptions): PGliteOptions {
  return {
    ...options,
    extensions: { vector },
    // Set on the command line, so that RESET ALL and DISCARD ALL restore it.
    startParams: [...PGlite.defaultStartParams, "-c", "embedd.single_session=on"],
  };
}

async function openPGlite(options: PGliteOptions): Promise<PGlite> {
  const db = new PGlite(settings(options));
  await db.waitReady;
  await db.exec("create extension if not exists vector");
  return db;
}

async function openDirectory(dataDir: string): Promise<PGlite> {
  if (!existsSync(join(dataDir, "PG_VERSION"))) {
    // Created under another name, so that a crash midway leaves nothing that looks like a database.
    const unfinished = `${dataDir}.unfinished`;
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished, { recursive: true });
    const db = await openPGlite({ dataDir: unfinished });
    await db.close();
    await rename(unfinished, dataDir);
  }
  return openPGlite({ dataDir });
}

async function serve(options: EmbeddedOptions, lock: DirectoryLock | undefined): Promise<EmbeddedServer> {
  const { dataDir, port = 0, loadDataDir } = options;
  const db = await (dataDir === undefined
    ? openPGlite({ ...(loadDataDir && { loadDataDir }) })
    : openDirectory(dataDir));
  const session = createSharedSession({
    db,
    channel: "embedd",
    idleInTransactionMs: IDLE_IN_TRANSACTION_MS,
  });
  try {
    await session.execute('listen "embedd"');
    const server = await listen(session, port, MAX_CONNECTIONS);
    await lock?.publish(server.port);
    let stopping: Promise<void> | undefined;
    const stop = async (): Promise<void> => {
      await server.stop();
      await db.close();
      await lock?.release();
    };
    return {
      connectionString: connectionString(server.port),
      owned: true,
      dump: () => db.dumpDataDir("none"),
      stop: () => (stopping ??= stop()),
    };
  } catch (error) {
    await db.close();
    throw error;
  }
}

function connectionString(port: number): string {
  return `postgres://postgres@127.0.0.1:${port}/postgres`;
}

/** A handle on the database that another process serves. */
function connectTo(port: number): EmbeddedServer {
  return {
    connectionString: connectionString(port),
    owned: false,
    dump: () => Promise.reject(new Error("another process has this database open")),
    stop: () => Promise.resolve(),
  };
}

/**
 * Opens PGlite with pgvector and serves it on 127.0.0.1. If another process already serves the directory,
 * returns that server's address.
 *
 * For evaluation only: fsync is off (a killed process loses nothing, a power failure can), all clients share one
 * session with its settings and locks, and transactions run one at a time.
 *
 * @throws EmbeddError `port_in_use`, or `embedded_start` if the directory cannot be opened
 */
export async function openEmbedded(options: EmbeddedOptions = {}): Promise<EmbeddedServer> {
  if (options.dataDir === undefined) return serve(options, undefined);
  const dataDir = resolve(options.dataDir);
  const folder = dirname(dataDir);
  const deadline = Date.now() + START_DEADLINE_MS;
  for (;;) {
    const lock = await lockFolder(folder);
    if (lock) {
      try {
        return await serve({ ...options, dataDir }, lock);
      } catch (error) {
        await lock.release();
        if (error instanceof EmbeddError) throw error;
        throw new EmbeddError(`embedded PostgreSQL cannot start in ${dataDir}: ${messageOf(error)}`, {
          kind: "configuration",
          code: "embedded_start",
          hint: `mv '${dataDir}' '${dataDir}.broken'`,
          cause: error,
        });
      }
    }
    const port = await findServer(folder);
    if (typeof port === "number") return connectTo(port);
    if (Date.now() > deadline) {
      throw configurationError(
        "embedded_start",
        `another process has held ${dataDir} for a minute without serving it`,
      );
    }
    // Processes that tried at the same moment have backed off as well.
    await sleep(50 + Math.random() * 200);
  }
}
