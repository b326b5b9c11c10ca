import { setTimeout } from "node:timers/promises";
import { addressUrl } from "../database-address.js";
import pg from "pg";
import { configurationError } from "../errors.js";
import { atMost } from "../sleep.js";
import { clientConfig } from "./pool.js";

/** From then on no test notification is sent: a full queue of notifications would refuse it, as it refuses writers. */
const MAX_QUEUE_USAGE = 0.5;

/** The server process behind a connection. */
export async function backendPid(client: pg.ClientBase): Promise<number> {
  const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
  return rows[0]?.pid ?? 0;
}

/**
 * Checks that notifications arrive and that a connection keeps its server process; a transaction pooler breaks both.
 * @returns null, or what does not work
 * @throws the database's error if it cannot be reached; nothing is left open then
 */
export async function inspectConnection(connectionString: string, waitMs = 2_000): Promise<string | null> {
  const config = clientConfig({ connectionString, applicationName: "embedd doctor" });
  const [listener, sender] = [new pg.Client(config), new pg.Client(config)];
  for (const client of [listener, sender]) client.on("error", () => undefined);
  try {
    const connects = await Promise.allSettled([listener.connect(), sender.connect()]);
    for (const connect of connects) if (connect.status === "rejected") throw connect.reason;
    const channel = `embedd_doctor_${process.pid}_${Date.now()}`;
    const notified = new Promise<boolean>((resolve) => {
      listener.on("notification", (message) => {
        if (message.channel === channel) resolve(true);
      });
    });
    await listener.query(`listen ${channel}`);
    const { rowCount } = await sender.query(
      "select pg_notify($1, '') where pg_notification_queue_usage() < $2",
      [channel, MAX_QUEUE_USAGE],
    );
    const arrived = rowCount === 0 || (await Promise.race([notified, setTimeout(waitMs, false)]));
    if (!arrived) return "a test notification did not arrive";
    const pids = new Set<number>();
    for (let i = 0; i < 5; i++) pids.add(await backendPid(listener));
    return pids.size > 1 ? "queries of one connection ran in several server processes" : null;
  } finally {
    // Also one of the two that did not connect: it would keep the process alive.
    for (const client of [listener, sender]) await atMost(1_000, client.end());
  }
}

/**
 * Refuses a transaction pooler before any session lock is taken: the lock would stay in a pooled connection after its
 * owner has gone. Costs one query where nothing stands between the client and the server: a pooler gives its clients
 * process ids of its own.
 * @param client a connection to the same address
 * @throws EmbeddError with code `pooler`
 */
export async function refusePooler(client: pg.ClientBase, connectionString: string): Promise<void> {
  const { rows } = await client.query<{ pid: number; single: boolean }>(
    `select pg_backend_pid() as pid, coalesce(current_setting('embedd.single_session', true), '') = 'on' as single`,
  );
  const { processID } = client as { processID?: unknown };
  if (rows[0]?.single === true || rows[0]?.pid === processID) return;
  const problem = await inspectConnection(connectionString);
  if (problem === null) return;
  throw configurationError(
    "pooler",
    `${problem}: a transaction pooler is between embedd and PostgreSQL; only writers may use it`,
    `export DATABASE_URL='${directUrl(connectionString).replaceAll("'", "%27")}'  # PostgreSQL's own host and port`,
  );
}

/** The address without its password, at PostgreSQL's default port. */
export function directUrl(databaseUrl: string): string {
  if (!URL.canParse(databaseUrl)) return "postgres://postgres@localhost:5432/postgres";
  const url = addressUrl(databaseUrl);
  url.password = "";
  url.port = "5432";
  // pg takes both from there as well.
  for (const name of ["password", "port"]) if (url.searchParams.has(name)) url.searchParams.delete(name);
  return url.toString();
}
