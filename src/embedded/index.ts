import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PGlite } from "@electric-sql/pglite";
import type { PGliteOptions } from "@electric-sql/pglite";
import { vector } from "@electric-sql/pglite-pgvector";
import { configurationError, EmbeddError, messageOf } from "../errors.js";
import { claimFolder, findServer } from "./claim.js";
import type { Claim } from "./claim.js";
import { createSharedSession } from "./session.js";
import { listen } from "./socket-server.js";

export interface EmbeddedOptions {
  /** Where the database lives; its parent holds the claim of the process that serves it. @default in memory */
  dataDir?: string;
  /** @default any free port of 127.0.0.1 */
  port?: number;
  /** A tarball of PGlite's `dumpDataDir`, to start from; only in memory. */
  loadDataDir?: Blob;
}

/** Embedded PostgreSQL, reachable by every PostgreSQL client on this machine. */
export interface EmbeddedServer {
  connectionString: string;
  /** False: another process serves this directory; `stop` does nothing. */
  owned: boolean;
  /** The data directory as a tarball for `loadDataDir`. Only where it is owned. */
  dump(): Promise<Blob>;
  /** Cuts clients off, writes everything to disk, and lets others open the directory. Idempotent. */
  stop(): Promise<void>;
}

/** The worker's pool, its clients of LISTEN, an application, a psql or two. */
const MAX_CONNECTIONS = 50;
const IDLE_IN_TRANSACTION_MS = 60_000;
/** A first start takes initdb, 3 to 10 s on a busy machine. */
const START_DEADLINE_MS = 60_000;

function settings(options: PGliteOptions): PGliteOptions {
  return {
    ...options,
    extensions: { vector },
    // From the command line, so that RESET ALL and DISCARD ALL come back to it.
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
    // Made under another name: a process that ends in the middle leaves nothing that looks like a database.
    const unfinished = `${dataDir}.unfinished`;
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished, { recursive: true });
    const db = await openPGlite({ dataDir: unfinished });
    await db.close();
    await rename(unfinished, dataDir);
  }
  return openPGlite({ dataDir });
}

async function serve(options: EmbeddedOptions, claim: Claim | undefined): Promise<EmbeddedServer> {
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
    await claim?.publish(server.port);
    let stopping: Promise<void> | undefined;
    const stop = async (): Promise<void> => {
      await server.stop();
      await db.close();
      await claim?.release();
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

/** What another process serves. */
function borrowed(port: number): EmbeddedServer {
  return {
    connectionString: connectionString(port),
    owned: false,
    dump: () => Promise.reject(new Error("another process has this database open")),
    stop: () => Promise.resolve(),
  };
}

/**
 * Opens PGlite with pgvector and serves it on 127.0.0.1. If a living process serves the directory already,
 * its address is returned.
 *
 * It is for trying things out: fsync is off (killing the process loses nothing, a power cut may), all
 * clients share one session (its settings and its locks are everybody's), and transactions take turns.
 *
 * @throws EmbeddError `port_in_use`, `embedded_start` if the directory cannot be opened.
 */
export async function openEmbedded(options: EmbeddedOptions = {}): Promise<EmbeddedServer> {
  if (options.dataDir === undefined) return serve(options, undefined);
  const dataDir = resolve(options.dataDir);
  const folder = dirname(dataDir);
  const deadline = Date.now() + START_DEADLINE_MS;
  for (;;) {
    const claim = await claimFolder(folder);
    if (claim) {
      try {
        return await serve({ ...options, dataDir }, claim);
      } catch (error) {
        await claim.release();
        if (error instanceof EmbeddError) throw error;
        throw new EmbeddError(`embedded PostgreSQL in ${dataDir} does not start: ${messageOf(error)}`, {
          kind: "configuration",
          code: "embedded_start",
          hint: `mv '${dataDir}' '${dataDir}.broken'`,
          cause: error,
        });
      }
    }
    const port = await findServer(folder);
    if (typeof port === "number") return borrowed(port);
    if (Date.now() > deadline) {
      throw configurationError("embedded_start", `another process has been opening ${dataDir} for a minute`);
    }
    // Others who claimed it at the same moment have backed off too.
    await sleep(50 + Math.random() * 200);
  }
}
