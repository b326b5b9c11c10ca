import { setTimeout } from "node:timers/promises";
import pg from "pg";
import { clientConfig } from "../database/pool.js";
import { atMost } from "../sleep.js";
import { backendPid } from "./inspect.sql.js";

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
    await sender.query(`notify ${channel}`);
    const arrived = await Promise.race([notified, setTimeout(waitMs, false)]);
    if (!arrived) return "a test notification did not arrive";
    const pids = new Set<number>();
    for (let i = 0; i < 5; i++) pids.add(await backendPid(listener));
    return pids.size > 1 ? "queries of one connection ran in several server processes" : null;
  } finally {
    // Also one of the two that did not connect: it would keep the process alive.
    for (const client of [listener, sender]) await atMost(1_000, client.end());
  }
}
