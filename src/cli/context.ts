import { join } from "node:path";
import type { Command } from "commander";
import pg from "pg";
import type { Client, Pool } from "pg";
import { loadConfig } from "../config.js";
import type { Config } from "../config.js";
import type { EmbeddedServer } from "../embedded/index.js";
import { readEnvFile } from "../env-file.js";
import { EmbeddError, configurationError } from "../errors.js";
import { createLogger } from "../logger.js";
import type { Logger } from "../logger.js";
import { migrate } from "../admin/migrate.js";
import { explainConnectionError } from "../database/connection-error.js";
import { explainRefusal } from "../database/denied.sql.js";
import { interrupt } from "../database/interrupt.js";
import { clientsOf, createPool, withOwnerClient } from "../database/pool.js";
import { atMost } from "../sleep.js";
import { setShutdownMs, stopSignal, unlessStopped } from "./signals.js";
import { forEmbedded, forShell } from "./text.js";
import { printError } from "./print.js";
import { visibleInLine } from "../visible.js";

export interface GlobalFlags {
  databaseUrl?: string;
  embedded?: boolean;
  dataDir?: string;
  provider?: string;
  logLevel?: string;
  maxTokensPerDay?: string;
  maxUsdPerDay?: string;
}

/** What most commands need: settings, a logger, a database. */
export interface Context {
  config: Config;
  log: Logger;
  databaseUrl: string;
  /** Set when embedd started its own PostgreSQL. */
  embedded: EmbeddedServer | null;
  pool: Pool;
  /** The hint with what to type for this database. */
  hintFor: (hint: string) => string;
  close(): Promise<void>;
}

export interface ContextOptions {
  /** Migrates embedded PostgreSQL, which fails if another build made the schema. @default true */
  migrated?: boolean;
  /** The command ends on its own when a signal stops it. @default false: it is abandoned, and its statements canceled */
  stopsItself?: boolean;
}

/** Closing a pool takes this long at most; a connection that is only half open does not end on its own. */
const CLOSE_MS = 1_000;

export function readConfig(command: Command): Config {
  const flags = command.optsWithGlobals<GlobalFlags>();
  const given = {
    DATABASE_URL: flags.databaseUrl,
    EMBEDD_DATA_DIR: flags.dataDir,
    EMBEDD_PROVIDER: flags.provider,
    EMBEDD_LOG_LEVEL: flags.logLevel,
    EMBEDD_MAX_TOKENS_PER_DAY: flags.maxTokensPerDay,
    EMBEDD_MAX_USD_PER_DAY: flags.maxUsdPerDay,
  };
  const { values, ignored } = readEnvFile();
  if (ignored !== null) printError(`embedd: .env is ignored: ${visibleInLine(ignored)}\n`);
  const config = loadConfig(given, undefined, values);
  setShutdownMs(config.shutdownMs);
  // Without a password at all, pg would look for one in .pgpass.
  if (!config.databaseTrusted) pg.defaults.password = "";
  return config;
}

/**
 * The address of the database, or null if --embedded asks for embedded PostgreSQL, which is never started unasked.
 * @throws EmbeddError `configuration`/`no_database`
 */
function addressOf({ databaseUrl }: Config, flags: GlobalFlags): string | null {
  if (flags.embedded === true) {
    if (flags.databaseUrl === undefined) return null;
    throw configurationError(
      "settings",
      "--embedded and --database-url name two databases",
      "leave out one of them",
    );
  }
  if (databaseUrl !== undefined) return databaseUrl.reveal();
  throw configurationError(
    "no_database",
    "DATABASE_URL is not set, so embedd does not know which database to use. " +
      "To try embedd without a PostgreSQL server, add --embedded",
    "export DATABASE_URL=postgres://user@host:5432/database",
  );
}

/**
 * Opens the database of DATABASE_URL. With --embedded, starts embedded PostgreSQL in the data directory, migrates it and
 * prints its address on standard error, so that psql can connect.
 */
async function openContext(command: Command, { migrated = true }: ContextOptions = {}): Promise<Context> {
  const config = readConfig(command);
  const log = createLogger({ level: config.logLevel, format: config.logFormat });
  const flags = command.optsWithGlobals<GlobalFlags>();
  const address = addressOf(config, flags);
  const embedded = address === null ? await openOwn(config.dataDir) : null;
  const databaseUrl = address ?? embedded?.connectionString ?? "";
  try {
    if (embedded !== null) {
      printError(`embedded PostgreSQL: psql "${embedded.shownAddress}"\n`);
      if (migrated) await migrate(databaseUrl);
    }
    const pool = createPool({
      connectionString: databaseUrl,
      applicationName: "embedd",
      max: 4,
    });
    const clients = clientsOf(pool);
    return {
      config,
      log,
      databaseUrl,
      embedded,
      pool,
      hintFor: (hint) =>
        embedded === null ? forShell(hint) : forEmbedded(hint, embedded.shownAddress, flags.dataDir),
      async close() {
        // Other programs use the one session of embedded PostgreSQL, and stopping it ends every statement.
        if (stopSignal.aborted && embedded === null) clients.forEach(interrupt);
        await atMost(CLOSE_MS, pool.end());
        await embedded?.stop();
      },
    };
  } catch (error) {
    await embedded?.stop();
    throw error;
  }
}

/** Imports embedded PostgreSQL only when needed, because that takes a third of a second. */
async function openOwn(dataDir: string): Promise<EmbeddedServer> {
  const { openEmbedded } = await import("../embedded/index.js");
  return openEmbedded({ dataDir: join(dataDir, "data") });
}

/**
 * Runs a command on a context, and closes the context even after an error.
 * @throws Interrupted if a signal stops the command
 */
export async function withContext<T>(
  command: Command,
  work: (context: Context) => Promise<T>,
  options: ContextOptions = {},
): Promise<T> {
  const context = await openContext(command, options);
  try {
    return await (options.stopsItself === true ? work(context) : unlessStopped(work(context)));
  } catch (error) {
    if (stopSignal.aborted) throw error;
    const explained = explainConnectionError(
      await explainRefusal(context.pool, error, context.databaseUrl),
      context.databaseUrl,
    );
    if (context.embedded === null || !(explained instanceof EmbeddError)) throw explained;
    const { lost } = context.embedded;
    const { kind, code, message, hint } = lost.aborted ? (lost.reason as EmbeddError) : explained;
    if (hint === undefined) throw explained;
    throw new EmbeddError(message, { kind, code, hint: context.hintFor(hint), cause: explained });
  } finally {
    await context.close();
  }
}

/** Runs a command of the tables' owner on one connection. */
export function withOwner<T>(
  command: Command,
  work: (client: Client, context: Context) => Promise<T>,
  options: ContextOptions = {},
): Promise<T> {
  return withContext(
    command,
    (context) => withOwnerClient(context.databaseUrl, (client) => work(client, context), stopSignal),
    options,
  );
}
