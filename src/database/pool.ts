import pg from "pg";
import type { ClientConfig, Pool } from "pg";

export interface ConnectOptions {
  connectionString: string;
  /** Shown in pg_stat_activity. */
  applicationName: string;
}

/** A silent host is noticed within 15 s: TCP keepalives on our side, and on the server's for our connection. */
export function clientConfig({ connectionString, applicationName }: ConnectOptions): ClientConfig {
  return {
    connectionString,
    application_name: applicationName,
    keepAlive: true,
    keepAliveInitialDelayMillis: 5_000,
    connectionTimeoutMillis: 10_000,
  };
}

/**
 * What a role's or a database's defaults must not change, above all that a key's text form reads back as the
 * same key. The search path and time zone stay the role's own: users' triggers run in our UPDATE and may rely
 * on them. A worker that is stopped or cut off between two statements of a claim holds up all others' claims, so
 * its transaction ends after 10 s. Where all connections share one session (embedded PostgreSQL) it is everybody's,
 * and left alone.
 */
export const sessionSettings = `
select set_config(name, value, false) from (values ('default_transaction_isolation', 'read committed'),
  ('idle_in_transaction_session_timeout', '10s'), ('jit', 'off'), ('datestyle', 'ISO'), ('intervalstyle', 'postgres'), ('extra_float_digits', '1'),
  ('tcp_keepalives_idle', '5'),
  ('tcp_keepalives_interval', '3'), ('tcp_keepalives_count', '3')) as settings (name, value)
where current_setting('embedd.single_session', true) is distinct from 'on'`;

/** A pool whose lost connections are replaced at the next query and never end the process. */
export function createPool(options: ConnectOptions & { max: number }): Pool {
  const pool = new pg.Pool({
    ...clientConfig(options),
    max: options.max,
    idleTimeoutMillis: 30_000,
    // eslint-disable-next-line @typescript-eslint/no-misused-promises -- pg-pool awaits it, its types do not say so
    onConnect: async (client) => {
      await client.query(sessionSettings);
    },
  });
  // An idle connection that is cut; the pool has dropped it already.
  pool.on("error", () => undefined);
  // One that is cut in use fails its query; the event has nothing to add, and unheard would end the process.
  pool.on("connect", (client) => client.on("error", () => undefined));
  return pool;
}

/**
 * For when the network is known to be dead, though no connection has been told.
 * @returns what ends every connection of the pool; queries that wait for an answer fail at once
 */
export function connectionDropper(pool: Pool): () => void {
  const clients = new Set<pg.Client>();
  pool.on("connect", (client) => {
    if (client instanceof pg.Client) clients.add(client);
  });
  pool.on("remove", (client) => {
    if (client instanceof pg.Client) clients.delete(client);
  });
  return () => {
    for (const client of clients) client.connection.stream.destroy();
  };
}

/** One connection for a command of the tables' owner, outside any pool. */
export async function withOwnerClient<T>(
  connectionString: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client(clientConfig({ connectionString, applicationName: "embedd" }));
  // A connection that is cut fails the query that runs; the event has nothing to add.
  client.on("error", () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
