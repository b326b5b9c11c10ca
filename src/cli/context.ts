import { join } from "node:path";
import type { Command } from "commander";
import type { Client, Pool } from "pg";
import { loadConfig } from "../config.js";
import type { Config } from "../config.js";
import type { EmbeddedServer } from "../embedded/index.js";
import { createLogger } from "../logger.js";
import type { Logger } from "../logger.js";
import { migrate } from "../admin/migrate.js";
import { createPool, withOwnerClient } from "../database/pool.js";

export interface GlobalFlags {
  databaseUrl?: string;
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
  close(): Promise<void>;
}

export interface ContextOptions {
  /** Does not print the address of embedded PostgreSQL. @default false */
  quiet?: boolean;
  /** Migrates embedded PostgreSQL, which fails if another build made the schema. @default true */
  migrated?: boolean;
}

export function readConfig(command: Command): Config {
  const flags = command.optsWithGlobals<GlobalFlags>();
  return loadConfig({
    DATABASE_URL: flags.databaseUrl,
    EMBEDD_DATA_DIR: flags.dataDir,
    EMBEDD_PROVIDER: flags.provider,
    EMBEDD_LOG_LEVEL: flags.logLevel,
    EMBEDD_MAX_TOKENS_PER_DAY: flags.maxTokensPerDay,
    EMBEDD_MAX_USD_PER_DAY: flags.maxUsdPerDay,
  });
}

/**
 * Opens the database of DATABASE_URL. Without that, starts embedded PostgreSQL in the data directory, migrates it and
 * prints its address on standard error, unless `quiet`, so that psql can connect.
 */
async function openContext(
  command: Command,
  { quiet = false, migrated = true }: ContextOptions = {},
): Promise<Context> {
  const config = readConfig(command);
  const log = createLogger({ level: config.logLevel, format: config.logFormat });
  const embedded = config.databaseUrl === undefined ? await openOwn(config.dataDir) : null;
  const databaseUrl = config.databaseUrl?.reveal() ?? embedded?.connectionString ?? "";
  try {
    if (embedded !== null) {
      if (!quiet) process.stderr.write(`embedded PostgreSQL: psql "${databaseUrl}"\n`);
      if (migrated) await migrate(databaseUrl);
    }
    const pool = createPool({
      connectionString: databaseUrl,
      applicationName: "embedd",
      max: 4,
    });
    return {
      config,
      log,
      databaseUrl,
      embedded,
      pool,
      async close() {
        await pool.end();
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

/** Runs a command on a context, and closes the context even after an error. */
export async function withContext<T>(
  command: Command,
  work: (context: Context) => Promise<T>,
  options: ContextOptions = {},
): Promise<T> {
  const context = await openContext(command, options);
  try {
    return await work(context);
  } finally {
    await context.close();
  }
}

/** Runs a command of the tables' owner on one connection. */
export function withOwner<T>(
  command: Command,
  work: (client: Client) => Promise<T>,
  options: ContextOptions = {},
): Promise<T> {
  return withContext(command, ({ databaseUrl }) => withOwnerClient(databaseUrl, work), options);
}
