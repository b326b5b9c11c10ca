import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { configurationError } from "../errors.js";
import { atMost } from "../sleep.js";
import { cannotStart, cannotWrite } from "./cannot-start.js";
import { openDatabase } from "./database.js";
import { findServer, lockFolder } from "./directory-lock.js";
import type { DirectoryLock } from "./directory-lock.js";
import { addressToShow, addressWithPassword, passwordFile, writePasswordFile } from "./password-file.js";
import type { Access } from "./password-file.js";
import { closeToOthers, makeFolder } from "./private-folder.js";
import { removeAtExit } from "./remove-at-exit.js";
import { createSharedSession } from "./session.js";
import { listen } from "./socket-server.js";
import type { SocketServer } from "./socket-server.js";
import { unfinishedOf } from "./thread-messages.js";
import { watchServer } from "./watch-server.js";

export interface EmbeddedOptions {
  /** The data directory; its parent holds the lock and password files of the serving process. @default in memory */
  dataDir?: string;
  /** @default any free port of 127.0.0.1 */
  port?: number;
  /** Start from this tarball, made by `dump`; in memory only. */
  loadDataDir?: Blob;
}

/** Embedded PostgreSQL, open to PostgreSQL clients of this user. */
export interface EmbeddedServer {
  /** With the password: not to be shown. */
  connectionString: string;
  /** The same for psql, with the path of a file that holds the password. */
  shownAddress: string;
  /** False: another process serves this directory, and `stop` only ends this handle. */
  owned: boolean;
  /** Aborted, with an `EmbeddError`, when the other process that serves the directory has ended. */
  lost: AbortSignal;
  /** The data directory as a tarball for `loadDataDir`. Rejects unless `owned`. */
  dump(): Promise<Blob>;
  /** Disconnects clients, flushes to disk, and unlocks the directory. A statement that does not end is cut off. Idempotent. */
  stop(): Promise<void>;
}

/** Enough for a worker's pool and listeners, an application and a few psql sessions. */
const MAX_CONNECTIONS = 50;
const IDLE_IN_TRANSACTION_MS = 60_000;
/** The first start runs initdb: 3 to 10 s on a busy machine. */
const START_DEADLINE_MS = 60_000;

/** A client sends its password at once; psql asks a person only after it has disconnected. */
const STARTUP_MS = 10_000;
/** A rollback and a checkpoint take less, unless a statement of a client is running. */
const STOP_MS = 3_000;
/** Set on the command line, so that RESET ALL and DISCARD ALL restore it. */
const PARAMETERS = ["-c", "embedd.single_session=on"];

/** @param folder for the password file */
async function serve(
  options: EmbeddedOptions,
  folder: string,
  lock: DirectoryLock | undefined,
): Promise<EmbeddedServer> {
  const { dataDir, port = 0, loadDataDir } = options;
  const tarball = await loadDataDir?.arrayBuffer();
  const db = await openDatabase({
    ...(dataDir !== undefined && { dataDir }),
    ...(tarball !== undefined && { tarball }),
    extraParams: PARAMETERS,
  });
  const session = createSharedSession({
    db,
    channel: "embedd",
    idleInTransactionMs: IDLE_IN_TRANSACTION_MS,
  });
  let server: SocketServer | undefined;
  const path = passwordFile(folder);
  const removePassword = removeAtExit(path);
  try {
    await session.execute('listen "embedd"');
    const password = randomBytes(16).toString("hex");
    server = await listen(session, {
      port,
      password,
      maxClients: MAX_CONNECTIONS,
      startupMs: STARTUP_MS,
    });
    const access = { port: server.port, password };
    await writePasswordFile(path, access);
    await lock?.publish(access);
    let stopping: Promise<void> | undefined;
    const stop = async (): Promise<void> => {
      // The claim stays until the database is closed: two processes must never have it open. A full disk takes no file.
      await lock?.withdraw().catch(() => undefined);
      await removePassword();
      await server?.stop();
      // The sockets' close events have queued the rollbacks.
      await atMost(
        STOP_MS,
        session.idle().then(() => db.close()),
      );
      await db.terminate();
      await lock?.release();
    };
    return {
      connectionString: addressWithPassword(access),
      shownAddress: addressToShow(access, path),
      owned: true,
      lost: new AbortController().signal,
      dump: () => db.dump(),
      stop: () => (stopping ??= stop()),
    };
  } catch (error) {
    await removePassword();
    await server?.stop();
    await atMost(STOP_MS, db.close());
    await db.terminate();
    throw error;
  }
}

/** Serves a database in memory. Its password file has a folder of its own. */
async function serveMemory(options: EmbeddedOptions): Promise<EmbeddedServer> {
  const folder = await mkdtemp(join(tmpdir(), "embedd-")).catch((error: unknown) => {
    throw cannotWrite(error, tmpdir());
  });
  const remove = removeAtExit(folder);
  try {
    const server = await serve(options, folder, undefined);
    return { ...server, stop: () => server.stop().finally(remove) };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** A handle on the database that another process serves. */
function connectTo(access: Access, folder: string, dataDir: string): EmbeddedServer {
  const { lost, end } = watchServer(folder, dataDir, access);
  return {
    connectionString: addressWithPassword(access),
    shownAddress: addressToShow(access, passwordFile(folder)),
    owned: false,
    lost,
    dump: () => Promise.reject(new Error("another process has this database open")),
    stop: () => {
      end();
      return Promise.resolve();
    },
  };
}

/**
 * Opens PGlite with pgvector and serves it on 127.0.0.1, to clients that know its password. If another process already
 * serves the directory, returns that server's address.
 *
 * For evaluation only: fsync is off (a killed process loses nothing, a power failure can), all clients share one
 * session with its settings and locks, and transactions run one at a time.
 *
 * @throws EmbeddError `port_in_use`, or `embedded_start` if the directory cannot be opened or is another user's
 */
export async function openEmbedded(options: EmbeddedOptions = {}): Promise<EmbeddedServer> {
  if (options.dataDir === undefined) return serveMemory(options);
  const dataDir = resolve(options.dataDir);
  try {
    return await serveDirectory({ ...options, dataDir }, dataDir);
  } catch (error) {
    throw await cannotStart(error, dataDir);
  }
}

async function serveDirectory(options: EmbeddedOptions, dataDir: string): Promise<EmbeddedServer> {
  const folder = dirname(dataDir);
  await makeFolder(folder);
  const deadline = Date.now() + START_DEADLINE_MS;
  for (;;) {
    const lock = await lockFolder(folder);
    if (lock) {
      try {
        await closeToOthers(dataDir);
        return await serve(options, folder, lock);
      } catch (error) {
        // On a full disk, nothing else could be written.
        await rm(unfinishedOf(dataDir), { recursive: true, force: true });
        await lock.release();
        throw error;
      }
    }
    const access = await findServer(folder);
    if (typeof access === "object") return connectTo(access, folder, dataDir);
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
