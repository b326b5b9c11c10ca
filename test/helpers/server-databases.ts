import { randomBytes } from "node:crypto";
import pg from "pg";

/** Databases of the tests on a real server: `embedd_test_<when>_<what>_<random>`. */
const PREFIX = "embedd_test_";
const KEPT_FOR_MS = 60 * 60 * 1_000;

export function databaseUrl(serverUrl: string, name: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return url.href;
}

export function newName(what: string): string {
  return `${PREFIX}${Date.now()}_${what}_${randomBytes(4).toString("hex")}`;
}

/** Runs with a connection to the database that TEST_DATABASE_URL names, from which others are made. */
export async function withAdmin<T>(serverUrl: string, run: (admin: pg.Client) => Promise<T>): Promise<T> {
  const admin = new pg.Client({
    connectionString: serverUrl,
    application_name: "embedd-test admin",
    connectionTimeoutMillis: 60_000,
  });
  await admin.connect();
  try {
    return await run(admin);
  } finally {
    await admin.end();
  }
}

export async function createServerDatabase(
  serverUrl: string,
  name: string,
  template?: string,
  encoding = "UTF8",
): Promise<void> {
  // Locale C goes with every encoding.
  const locale = encoding === "UTF8" ? "" : "locale 'C'";
  await withAdmin(serverUrl, (admin) =>
    admin.query(
      `create database "${name}" template "${template ?? "template0"}" encoding '${encoding}' ${locale}`,
    ),
  );
}

export async function dropServerDatabase(serverUrl: string, name: string): Promise<void> {
  await withAdmin(serverUrl, (admin) => admin.query(`drop database if exists "${name}" with (force)`));
}

/** Drops what failed tests left behind more than an hour ago. */
export async function dropOldDatabases(admin: pg.Client): Promise<void> {
  const { rows } = await admin.query<{ datname: string }>(
    "select datname from pg_database where starts_with(datname, $1)",
    [PREFIX],
  );
  for (const { datname } of rows) {
    const createdAt = Number(datname.slice(PREFIX.length).split("_")[0]);
    if (Date.now() - createdAt > KEPT_FOR_MS) await admin.query(`drop database "${datname}" with (force)`);
  }
}

/** What outlives a database: the server's roles, tablespaces and databases. */
export async function serverObjects(admin: pg.Client): Promise<Set<string>> {
  const { rows } = await admin.query<{ object: string }>(`
    select 'role ' || rolname as object from pg_roles
    union all
    select 'tablespace ' || spcname from pg_tablespace
    union all
    select 'database ' || datname from pg_database`);
  return new Set(rows.map(({ object }) => object));
}

/** Whether other test runs use the server: each has a template database. */
export async function otherRuns(admin: pg.Client): Promise<boolean> {
  const { rowCount } = await admin.query(
    "select from pg_database where starts_with(datname, $1) and datname ~ '_template_'",
    [PREFIX],
  );
  return rowCount !== 0;
}
