import pg from "pg";
import type { ClientConfig, Pool } from "pg";
import { addressUrl } from "../database-address.js";
import { atMost } from "../sleep.js";
import { readSmallFile } from "../small-file.js";
import { unreadableFile } from "./connection-error.js";
import { refuseForeignSchema } from "./foreign-schema.sql.js";
import { interrupt } from "./interrupt.js";
import { isReadOnly } from "./session-error.js";

export interface ConnectOptions {
  connectionString: string;
  /** Shown in pg_stat_activity. */
  applicationName: string;
}

/**
 * pg treats all of these as verify-full, and prints a warning of ten lines that it does. The meaning stays, the warning
 * goes; `uselibpqcompat=true` in the address gives them the meaning that they have for psql.
 */
const VERIFIED = new Set(["prefer", "require", "verify-ca"]);

/** The address with its sslmode named by what it means to pg. */
export function explicitSslMode(connectionString: string): string {
  const url = addressUrl(connectionString);
  const { searchParams } = url;
  const last = (name: string): string => searchParams.getAll(name).at(-1) ?? "";
  if (!VERIFIED.has(last("sslmode")) || last("uselibpqcompat") === "true") return connectionString;
  searchParams.set("sslmode", "verify-full");
  return url.toString();
}

/** pg reads the files that an address names, of any kind and size. A FIFO would stop this process. */
function checkFiles(connectionString: string): void {
  const { searchParams } = addressUrl(connectionString);
  for (const name of ["sslcert", "sslkey", "sslrootcert"]) {
    const path = searchParams.getAll(name).at(-1);
    try {
      if (path) readSmallFile(path);
    } catch (error) {
      throw unreadableFile(error, connectionString);
    }
  }
}

/**
 * TCP keepalives detect a silent host within 15 s, here and, by the session settings, on the server.
 * @throws EmbeddError `configuration`/`tls` if the address names a file that cannot be read
 */
export function clientConfig({ connectionString, applicationName }: ConnectOptions): ClientConfig {
  checkFiles(connectionString);
  return {
    connectionString: explicitSslMode(connectionString),
    application_name: applicationName,
    keepAlive: true,
    keepAliveInitialDelayMillis: 5_000,
    connectionTimeoutMillis: 10_000,
  };
}

/** Where all connections share one session (embedded PostgreSQL), other programs use it too: its settings stay as they are. */
const OWN_SESSION = "pg_catalog.current_setting('embedd.single_session', true) is distinct from 'on'";

/**
 * Resolves the names in embedd's statements in pg_catalog alone: a role that may create objects in a schema of the search
 * path could put functions and operators there that PostgreSQL prefers to its own. `embedd.search_path` keeps the
 * role's own path, for the names of tables that users give, and for their triggers.
 */
export const fixedSearchPath = `
select
  pg_catalog.set_config('embedd.search_path', coalesce(
    pg_catalog.current_setting('embedd.search_path', true), pg_catalog.current_setting('search_path')), false),
  pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false)
where ${OWN_SESSION}`;

/**
 * SQL: the role's own search path holds until the transaction ends; never NULL. A statement's names have been resolved
 * before, so this is for what it calls: users' triggers and casts, which may rely on their path.
 */
export const usersSearchPath = `set_config('search_path',
      coalesce(current_setting('embedd.search_path', true), current_setting('search_path')), true)`;

/**
 * Settings that the defaults of a role or a database must not change. Above all, a key's text form must read back
 * as the same key. The time zone stays the role's own: users' triggers run in embedd's UPDATE and may rely on it.
 * A worker that is frozen or cut off between two statements of a claim blocks all other claims, so its transaction ends
 * after 10 s. Between batches its sessions are idle for as long as there is nothing to do.
 */
export const sessionSettings = `${fixedSearchPath};
select set_config(name, value, false)
from (values
  ('default_transaction_isolation', 'read committed'),
  ('idle_in_transaction_session_timeout', '10s'),
  ('idle_session_timeout', '0'),
  ('jit', 'off'),
  ('datestyle', 'ISO'),
  ('intervalstyle', 'postgres'),
  ('extra_float_digits', '1'),
  ('tcp_keepalives_idle', '5'),
  ('tcp_keepalives_interval', '3'),
  ('tcp_keepalives_count', '3')) as settings (name, value)
where ${OWN_SESSION}`;

/** A pool that replaces a lost connection at the next query. A lost connection never ends the process. */
export function createPool(options: ConnectOptions & { max: number }): Pool {
  const pool = new pg.Pool({
    ...clientConfig(options),
    max: options.max,
    idleTimeoutMillis: 30_000,
    // eslint-disable-next-line @typescript-eslint/no-misused-promises -- pg-pool awaits it, its types do not say so
    onConnect: async (client) => {
      await client.query(sessionSettings);
      await refuseForeignSchema(client);
    },
  });
  // An idle connection was cut. The pool has already dropped it.
  pool.on("error", () => undefined);
  // If a connection is cut in use, its query fails. The event says nothing new, but without a listener it would
  // end the process.
  pool.on("connect", (client) => client.on("error", () => undefined));
  return pool;
}

/** @returns the open connections of a new pool, as a set that stays current */
export function clientsOf(pool: Pool): ReadonlySet<pg.Client> {
  const clients = new Set<pg.Client>();
  pool.on("connect", (client) => {
    if (client instanceof pg.Client) clients.add(client);
  });
  pool.on("remove", (client) => {
    if (client instanceof pg.Client) clients.delete(client);
  });
  return clients;
}

/**
 * For a network that is known to be dead while its connections still look open.
 * @returns a function that cuts every connection of the pool; queries that wait for an answer fail at once
 */
export function connectionDropper(pool: Pool): () => void {
  const clients = clientsOf(pool);
  return () => {
    for (const client of clients) client.connection.stream.destroy();
  };
}

/** Calls `report` for each error of the pool's new connections that says that the server takes no writes. */
export function onReadOnly(pool: Pool, report: (error: unknown) => void): void {
  pool.on("connect", (client) => {
    if (!(client instanceof pg.Client)) return;
    client.connection.on("errorMessage", (error: unknown) => {
      if (isReadOnly(error)) report(error);
    });
  });
}

/** Closes a connection. One that is only half open does not end on its own. */
export async function closeClient(client: pg.Client): Promise<void> {
  await atMost(1_000, client.end());
  interrupt(client);
}

/**
 * Opens one connection for a command that the tables' owner runs.
 * @param signal cancels the running statement and cuts the connection
 */
export async function withOwnerClient<T>(
  connectionString: string,
  work: (client: pg.Client) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  signal?.throwIfAborted();
  const client = new pg.Client(clientConfig({ connectionString, applicationName: "embedd" }));
  // If the connection is cut, its query fails. The event says nothing new.
  client.on("error", () => undefined);
  const onAbort = (): void => {
    interrupt(client);
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    await client.connect();
    await client.query(fixedSearchPath);
    await refuseForeignSchema(client);
    return await work(client);
  } finally {
    await client.end();
    signal?.removeEventListener("abort", onAbort);
  }
}
