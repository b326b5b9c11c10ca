import { randomUUID } from "node:crypto";
import pg from "pg";
import { messageOf } from "../../errors.js";
import type { Logger } from "../../logger.js";
import { clientConfig, closeClient, sessionSettings } from "../../database/pool.js";
import type { ConnectOptions } from "../../database/pool.js";
import { backoffMs } from "../../backoff.js";
import { sleep, withAnyOf } from "../../sleep.js";

/** The only channel. Its payload is the id of a pipeline with work, `pipelines`, or a listener's own `ping`. */
const CHANNEL = "embedd";
/** A row of embedd.pipelines has changed. */
export const PIPELINES_CHANGED = "pipelines";

/** NOTIFY takes a lock on the whole database at commit, so this is rare. */
const PROOF_INTERVAL_MS = 15_000;
const PROOF_TIMEOUT_MS = 5_000;

export interface Listener {
  /** How long ago a notification last arrived, at least one of its own. */
  heardMsAgo(): number;
  /** Replaces the connection. */
  reopen(cause: string): void;
  stop(): Promise<void>;
}

export interface ListenerOptions extends ConnectOptions {
  log: Logger;
  onNotification: (payload: string) => void;
  /** Notifications may have been missed. */
  onReconnect: () => void;
  /** How often the listener proves that it hears. @default 15000 */
  proofIntervalMs?: number | undefined;
}

/**
 * Listens on the channel. A connection may live and be deaf all the same: its LISTEN was lost, or something on the way
 * swallows notifications. So the listener sends a notification to itself at an interval, and replaces a connection
 * that it does not arrive on, indefinitely, as it replaces one that is lost.
 * @throws the database's error if the first connection fails; nothing is left open then
 */
export async function openListener(options: ListenerOptions): Promise<Listener> {
  const { log, proofIntervalMs = PROOF_INTERVAL_MS } = options;
  const stopping = new AbortController();
  let client: pg.Client | null = null;
  let reopening: Promise<void> | null = null;
  let heardAt = performance.now();
  let awaited: { payload: string; arrived: () => void } | null = null;

  async function connect(): Promise<void> {
    // A query on a connection that is only half open fails after this long.
    const next = new pg.Client({ ...clientConfig(options), query_timeout: PROOF_TIMEOUT_MS });
    next.on("error", (error) => {
      lost(next, error);
    });
    next.on("end", () => {
      lost(next, new Error("the connection ended"));
    });
    next.on("notification", ({ payload = "" }) => {
      heardAt = performance.now();
      if (payload === awaited?.payload) awaited.arrived();
      else if (!payload.startsWith("ping ")) options.onNotification(payload);
    });
    try {
      await next.connect();
      await next.query(sessionSettings);
      await next.query(`listen ${CHANNEL}`);
      await prove(next);
    } catch (error) {
      await closeClient(next);
      throw error;
    }
    client = next;
  }

  /** @throws unless a notification to itself arrives */
  async function prove(which: pg.Client): Promise<void> {
    const payload = `ping ${randomUUID()}`;
    const deadline = new AbortController();
    const arrival = new Promise<boolean>((resolve) => {
      awaited = {
        payload,
        arrived: () => {
          resolve(true);
        },
      };
    });
    try {
      const { rows } = await which.query<{ sent: boolean }>("select embedd.notify($1) as sent", [payload]);
      // The server's queue of notifications is filling up. The answer proves the connection, and polls find the rows.
      if (rows[0]?.sent !== true) return;
      const late = withAnyOf([deadline.signal, stopping.signal], (signal) => sleep(PROOF_TIMEOUT_MS, signal));
      if (!(await Promise.race([arrival, late.then(() => false)])) && !stopping.signal.aborted)
        throw new Error("deaf: its own notification did not arrive");
    } finally {
      awaited = null;
      deadline.abort();
    }
  }

  function lost(which: pg.Client, error: unknown): void {
    if (which !== client || stopping.signal.aborted) return;
    client = null;
    void closeClient(which);
    log.warn({ cause: messageOf(error) }, "the listener failed, reconnecting");
    reopening ??= reconnect().finally(() => (reopening = null));
  }

  async function reconnect(): Promise<void> {
    for (let attempt = 0; !stopping.signal.aborted; attempt++) {
      await sleep(Math.max(50, backoffMs(attempt, 100, 2_000)), stopping.signal);
      if (stopping.signal.aborted) return;
      try {
        await connect();
        options.onReconnect();
        return;
      } catch (error) {
        log.warn({ cause: messageOf(error) }, "the listener could not reconnect");
      }
    }
  }

  async function proveAgain(): Promise<void> {
    const current = client;
    if (current === null || awaited !== null) return;
    await prove(current).catch((error: unknown) => {
      lost(current, error);
    });
  }

  await connect();
  const timer = setInterval(() => void proveAgain(), proofIntervalMs);
  return {
    heardMsAgo: () => performance.now() - heardAt,
    reopen(cause) {
      if (client !== null) lost(client, new Error(cause));
    },
    async stop() {
      clearInterval(timer);
      stopping.abort();
      await reopening;
      const last = client;
      client = null;
      if (last !== null) await closeClient(last);
    },
  };
}
