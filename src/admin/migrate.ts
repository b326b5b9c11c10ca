import { readFile, readdir } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { z } from "zod";
import { checkArguments, databaseAddress } from "../check-arguments.js";
import { addressUrl } from "../database-address.js";
import { configurationError } from "../errors.js";
import type { EmbeddError } from "../errors.js";
import { shellWord } from "../shell-word.js";
import { ownFile } from "../own-file.js";
import { explainConnectionError, targetOf } from "../database/connection-error.js";
import { refuseForeignObjects } from "../database/foreign-schema.sql.js";
import { refusePooler } from "../database/inspect-connection.js";
import { readTimeLimits, withoutTimeLimits } from "../database/maintenance.sql.js";
import { clientConfig, explicitSslMode, fixedSearchPath } from "../database/pool.js";
import { markBookkeeping, readBookkeeping } from "./bookkeeping.sql.js";
import type { Bookkeeping } from "./bookkeeping.sql.js";
import { takeMigrateLock } from "./migrate-lock.sql.js";

/** Found on demand: a bundle that never migrates works without the files. */
const migrationsFolder = (): string =>
  fileURLToPath(ownFile(import.meta.url, "../../migrations", "embedd's migrations"));

/** duplicate_schema, duplicate_table, duplicate_column, duplicate_function, duplicate_object, unique_violation */
const SOMEBODY_ELSE_DID = new Set(["42P06", "42P07", "42701", "42723", "42710", "23505"]);

/** A script cannot update a schema, so it stops with advice before its first change. */
const REFUSE_SECOND_INSTALL = `do $$
begin
  if pg_catalog.to_regnamespace('embedd') is not null then
    raise exception using
      message = 'this database has an embedd schema already',
      hint = 'To replace it with this build: embedd uninstall, run this script again, and embedd watch each table again.';
  end if;
end $$;
`;

/** The migrations that this version of embedd brings, in order. */
export async function committedMigrations(): Promise<{ name: string; hash: string; body: string }[]> {
  const folder = migrationsFolder();
  const names = (await readdir(`${folder}/committed`)).filter((name) => name.endsWith(".sql")).sort();
  return Promise.all(
    names.map(async (name) => {
      const text = await readFile(`${folder}/committed/${name}`, "utf8");
      return { name, hash: /^--! Hash: (.+)$/m.exec(text)?.[1] ?? "", body: text.replace(/^(--!.*\n)+/, "") };
    }),
  );
}

/** All migrations as one script, for a database whose migrations are managed by other means. */
export async function migrationScript(): Promise<string> {
  const migrations = await committedMigrations();
  return `begin;\n${REFUSE_SECOND_INSTALL}\n${migrations.map(({ name, body }) => `-- ${name}\n${body}`).join("\n")}\ncommit;\n`;
}

/**
 * Brings the schema `embedd` up to date. Idempotent; of two at once the second waits and finds nothing to do.
 * @returns the names of the migrations that were run
 * @throws EmbeddError of kind `configuration`: `pooler` if its locks would not last; `no_pgvector`; `other_build`,
 *   `newer_schema` or `foreign_migrations` if another build of embedd, a newer one, or another application wrote the list
 *   of migrations
 */
export async function migrate(connectionString: string): Promise<string[]> {
  checkArguments("migrate", z.object({ databaseUrl: databaseAddress }), { databaseUrl: connectionString });
  try {
    return await migrateOn(connectionString);
  } catch (error) {
    throw lacksRight(error, connectionString) ?? explainConnectionError(error, connectionString);
  }
}

/** What another role has to type first; null: no right is missing. */
function lacksRight(error: unknown, connectionString: string): EmbeddError | null {
  if (!(error instanceof pg.DatabaseError) || error.code !== "42501") return null;
  const { host, port, database, user } = targetOf(connectionString);
  const psql = `psql -h ${shellWord(host)} -p ${port} -U postgres -d ${shellWord(database)}`;
  const role = pg.escapeIdentifier(user);
  const extension = /create extension/.test(error.message);
  const statement = extension
    ? "create extension vector"
    : `grant create on database ${pg.escapeIdentifier(database)} to ${role}`;
  return configurationError(
    "no_privilege",
    `${error.message}. ${extension ? "A superuser" : "The database's owner"}, or the admin of a managed service, gives it once`,
    `${psql} -c ${shellWord(statement)}`,
  );
}

async function migrateOn(connectionString: string): Promise<string[]> {
  const client = new pg.Client(clientConfig({ connectionString, applicationName: "embedd migrate" }));
  // Its queries fail too. Without a listener, the event would end the process.
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.query(fixedSearchPath);
    await refusePooler(client, connectionString);
    // If this process ends, so does what it waits for. Some platforms do not support the setting.
    await client.query("set client_connection_check_interval = '1s'").catch(() => undefined);
    return await withoutTimeLimits(client, () => runMissing(client, connectionString));
  } finally {
    await client.end();
  }
}

async function runMissing(client: pg.Client, connectionString: string): Promise<string[]> {
  await takeMigrateLock(client);
  await checkPgvector(client);
  const committed = await committedMigrations();
  const known = committed.map(({ hash }) => hash);
  await refuseForeignObjects(client);
  const before = await readBookkeeping(client, known);
  checkBookkeeping(before, known);
  const missing = committed.filter(({ hash }) => !before.hashes.includes(hash));
  if (missing.length === 0) return [];
  const limits = Object.keys(await readTimeLimits(client)).map((name) => [name, "0"]);
  await runUntilNobodyElseDoes(
    await withDatabase(client, connectionString),
    Object.fromEntries(limits) as Record<string, string>,
  );
  await markBookkeeping(client);
  return missing.map(({ name }) => name);
}

/**
 * Where all connections share one session no lock keeps two migrations apart. Each file is a transaction,
 * so the second fails at a file that the first has just run, and continues after it.
 */
async function runUntilNobodyElseDoes(
  connectionString: string,
  pgSettings: Record<string, string>,
): Promise<void> {
  // Imported on demand: it loads slowly, and every command loads this file.
  const { migrate: runMigrations } = await import("graphile-migrate");
  const { clearAllPools } = await import("graphile-migrate/dist/pgReal.js");
  const { Logger } = await import("@graphile/logger");
  const logger = new Logger(() => () => undefined);
  for (let attempt = 1; ; attempt++) {
    try {
      await runMigrations({ ...settings(connectionString, pgSettings), logger });
      return;
    } catch (error) {
      if (attempt === 20 || !SOMEBODY_ELSE_DID.has(String((error as { code?: unknown }).code))) throw error;
      await setTimeout(100);
    } finally {
      // They are kept for a moment, and a pool whose server goes away meanwhile ends the process.
      clearAllPools();
    }
  }
}

/** @param pgSettings what graphile-migrate sets in its own sessions */
function settings(connectionString: string, pgSettings: Record<string, string>) {
  return {
    connectionString,
    migrationsFolder: migrationsFolder(),
    databaseOwner: "embedd",
    pgSettings,
  };
}

/** graphile-migrate wants the database's name in the address. */
async function withDatabase(client: pg.Client, connectionString: string): Promise<string> {
  const { rows } = await client.query<{ name: string }>("select current_database() as name");
  const url = addressUrl(explicitSslMode(connectionString));
  if (url.pathname.length <= 1) url.pathname = `/${encodeURIComponent(rows[0]?.name ?? "")}`;
  return url.toString();
}

async function checkPgvector(client: pg.Client): Promise<void> {
  const { rows } = await client.query("select from pg_available_extensions where name = 'vector'");
  if (rows.length > 0) return;
  const { rows: version } = await client.query<{ major: string }>(
    "select current_setting('server_version_num')::int / 10000 as major",
  );
  throw configurationError(
    "no_pgvector",
    "the database server does not have the extension pgvector",
    `apt-get install postgresql-${version[0]?.major ?? "17"}-pgvector`,
  );
}

/**
 * Until 1.0 committed migrations are edited in place, so a schema of another build cannot be updated.
 * graphile-migrate keeps one list per database, so another application's list would hide our migrations.
 */
function checkBookkeeping({ hashes, ours }: Bookkeeping, known: readonly string[]): void {
  if (hashes.every((hash) => known.includes(hash))) return;
  if (known.every((hash) => hashes.includes(hash))) {
    throw configurationError(
      "newer_schema",
      "this database was migrated by a newer embedd",
      "npm install pg-embedd@latest",
    );
  }
  if (ours) {
    throw configurationError(
      "other_build",
      "another pre-release build made this database's embedd schema, and this build cannot update it. " +
        "Replace the schema, then run embedd watch for each table again. " +
        "Vectors and model names stay in your tables; rows of embedd.chunks are lost (uninstall asks for --drop-chunks)",
      "embedd uninstall && embedd migrate",
    );
  }
  throw configurationError(
    "foreign_migrations",
    "graphile_migrate.migrations in this database belongs to another application",
    'embedd migrate --sql | psql -v ON_ERROR_STOP=1 "$DATABASE_URL"',
  );
}
