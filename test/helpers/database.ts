import { readFile } from "node:fs/promises";
import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, inject, it } from "vitest";
import { openEmbedded } from "#embedd/embedded/index.js";
import type { EmbeddedServer } from "#embedd/embedded/index.js";
import {
  createServerDatabase,
  databaseUrl,
  dropServerDatabase,
  newName,
  withAdmin,
} from "./server-databases.js";
import { waitFor } from "./wait.js";

export interface Database {
  readonly url: string;
  readonly pool: pg.Pool;
  query<R extends pg.QueryResultRow = pg.QueryResultRow>(
    sql: string,
    params?: unknown[],
  ): Promise<pg.QueryResult<R>>;
  drop(): Promise<void>;
}

export interface TestDatabase extends Omit<Database, "drop"> {
  readonly kind: "server" | "embedded";
  /** Set where the database is embedded. */
  readonly embedded: EmbeddedServer | undefined;
  /**
   * Creates another database, without embedd's schema; dropped at the end of the file at the latest.
   * @param encoding only on a server; @default "UTF8"
   */
  createDatabase(encoding?: string): Promise<Database>;
  /** The same with embedd's schema, a copy of one that was migrated once. */
  createMigratedDatabase(): Promise<Database>;
}

interface OpenDatabase extends Database {
  embedded: EmbeddedServer | undefined;
  /** Throws if a connection is still open or a lease is left. */
  checkLeaks(): Promise<void>;
  closePool(): Promise<void>;
}

const template = inject("databaseTemplate");

/** The name of the connections that do not count as left open by a test. */
const OURS = "embedd-test pool";

function openPool(url: string): pg.Pool {
  const pool = new pg.Pool({ connectionString: url, application_name: OURS, max: 4 });
  pool.on("error", () => undefined);
  return pool;
}

async function leasesLeft(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ there: boolean }>(
    "select to_regclass('embedd.leases') is not null as there",
  );
  if (rows[0]?.there !== true) return 0;
  return (await pool.query("select from embedd.leases")).rowCount ?? 0;
}

async function strangers(serverUrl: string, name: string): Promise<string[]> {
  const { rows } = await withAdmin(serverUrl, (admin) =>
    admin.query<{ application_name: string }>(
      "select application_name from pg_stat_activity where datname = $1 and backend_type = 'client backend' and application_name <> $2",
      [name, OURS],
    ),
  );
  return rows.map((row) => row.application_name);
}

async function openDatabase(migrated: boolean, encoding?: string): Promise<OpenDatabase> {
  if (template.kind === "embedded") {
    const tarball = await readFile(migrated ? template.migratedPath : template.emptyPath);
    const embedded = await openEmbedded({ loadDataDir: new Blob([tarball]) });
    return handle(
      embedded.connectionString,
      embedded,
      () => embedded.stop(),
      () => Promise.resolve([]),
    );
  }
  const { serverUrl } = template;
  const name = newName("file");
  await createServerDatabase(serverUrl, name, migrated ? template.name : undefined, encoding);
  return handle(
    databaseUrl(serverUrl, name),
    undefined,
    () => dropServerDatabase(serverUrl, name),
    () => strangers(serverUrl, name),
  );
}

function handle(
  url: string,
  embedded: EmbeddedServer | undefined,
  drop: () => Promise<void>,
  others: () => Promise<string[]>,
): OpenDatabase {
  const pool = openPool(url);
  let closed: Promise<void> | undefined;
  const closePool = (): Promise<void> => (closed ??= pool.end());
  return {
    url,
    pool,
    embedded,
    query: (sql, params) => pool.query(sql, params),
    closePool,
    async drop() {
      await closePool();
      await drop();
    },
    async checkLeaks() {
      let left: string[] = [];
      // A backend ends a moment after its client.
      await waitFor(async () => (left = await others()).length === 0, { what: "leaks" }).catch(() => {
        throw new Error(`connections left open by the tests of this file: ${left.join(", ")}`);
      });
      const leases = await leasesLeft(pool);
      if (leases > 0) throw new Error(`${leases} leases left in embedd.leases by the tests of this file`);
    },
  };
}

/**
 * A database with embedd's schema for the tests of one file. Call it at the top of the file; it is open from
 * `beforeAll` on. On a server, a failed file's database is kept for an hour, and its address printed.
 */
export function useDatabase(): TestDatabase {
  let current: OpenDatabase | undefined;
  let failed = false;
  const more = new Set<OpenDatabase>();
  const keep = (database: OpenDatabase): Database => {
    more.add(database);
    return {
      ...database,
      async drop() {
        more.delete(database);
        await database.drop();
      },
    };
  };
  const get = (): OpenDatabase => {
    if (!current) throw new Error("the database opens in beforeAll; use it in a test or a hook");
    return current;
  };

  beforeAll(async () => {
    current = await openDatabase(true);
  });
  beforeEach(({ onTestFailed }) => {
    onTestFailed(() => {
      failed = true;
    });
  });
  afterAll(async () => {
    for (const database of more) await database.drop();
    if (!current) return;
    try {
      if (!failed) await current.checkLeaks();
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      if (failed && template.kind === "server") {
        await current.closePool();
        console.log(`kept for an hour, to look at: psql '${current.url}'`);
      } else {
        await current.drop();
      }
    }
  });

  return {
    kind: template.kind,
    get url() {
      return get().url;
    },
    get pool() {
      return get().pool;
    },
    get embedded() {
      return get().embedded;
    },
    query: (sql, params) => get().query(sql, params),
    createDatabase: async (encoding) => keep(await openDatabase(false, encoding)),
    createMigratedDatabase: async () => keep(await openDatabase(true)),
  };
}

/** Part of the name of every test that is skipped on embedded PostgreSQL. */
const NEEDS_SERVER = "[needs a PostgreSQL server: TEST_DATABASE_URL]";

/** A group of tests that need a real server; on embedded PostgreSQL they are listed as skipped. */
export function describeServer(name: string, define: () => void): void {
  if (template.kind === "server") describe(name, define);
  else describe.skip(`${name} ${NEEDS_SERVER}`, define);
}

/** A test that needs a real server; on embedded PostgreSQL it is listed as skipped. */
export function itServer(name: string, run: () => Promise<void>): void {
  if (template.kind === "server") it(name, run);
  else it.skip(`${name} ${NEEDS_SERVER}`, run);
}
