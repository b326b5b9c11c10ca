import pg from "pg";
import { messageOf } from "../../errors.js";
import type { Logger } from "../../logger.js";
import { gateHolders, releaseGate, tryGate } from "./gate.sql.js";
import type { GateAnswer, GateHolder } from "./gate.sql.js";
import { announceWorker, beat, depart } from "./heartbeat.sql.js";
import { duePipelines } from "./due-pipelines.sql.js";
import { serve, unserve } from "./serve.sql.js";
import type { ServeAnswer } from "./serve.sql.js";
import { interrupt } from "../../database/interrupt.js";
import { clientConfig, closeClient, sessionSettings } from "../../database/pool.js";
import type { ConnectOptions } from "../../database/pool.js";
import { isReadOnly } from "../../database/session-error.js";
import { backoffMs } from "../../backoff.js";
import { sleep } from "../../sleep.js";

/**
 * The connection that proves that the worker is alive. Its session locks keep the worker's leases valid, hold the
 * gates while the worker sleeps, and make its row of embedd.heartbeats count, which says which pipelines it serves.
 * All of them end with the connection, even after kill -9.
 */
export interface Presence {
  /** Changes with every new connection. */
  readonly workerId: number;
  tryGate(pipelineId: number, lookForSleeper: boolean): Promise<GateAnswer>;
  releaseGate(pipelineId: number): Promise<void>;
  /** Who else holds a pipeline's gate. */
  gateHolders(pipelineId: number): Promise<GateHolder[]>;
  /** Asks to serve a pipeline; refused while another model's workers serve it. */
  serve(pipelineId: number, model: string): Promise<ServeAnswer>;
  unserve(pipelineId: number): Promise<void>;
  /** The pipelines with something due. Every call also checks the connection. */
  due(pipelineIds: readonly number[]): Promise<number[]>;
  /** Says that the worker is alive, and how long ago a notification last reached it. */
  beat(heardMsAgo: number): Promise<void>;
  /** Replaces the connection because the server takes no writes. Safe to call again meanwhile. */
  renew: (cause: unknown) => void;
  /** Cancels what it is waiting for, and cuts the connection. */
  interrupt(): void;
  stop(): Promise<void>;
}

export interface PresenceOptions extends ConnectOptions {
  log: Logger;
  /** A query was not answered in time on an open connection, so other connections may be dead too. */
  onSilence: () => void;
  /**
   * A new connection is open; all gates were lost with the old one.
   * @param wasReadOnly the server takes writes again, but sessions that are older than this one may not
   */
  onReconnect: (wasReadOnly: boolean) => void;
  /** Each attempt that fails to replace a lost connection. */
  onConnectError: (error: unknown) => void;
}

/**
 * Connects. A connection that is lost later is replaced, indefinitely.
 * @throws the database's error if the first connection fails; nothing is left open then
 */
export async function openPresence(options: PresenceOptions): Promise<Presence> {
  const { log } = options;
  const stopping = new AbortController();
  const held = new Set<number>();
  let client: pg.Client | null = null;
  let workerId = 0;
  let reconnecting: Promise<void> | null = null;
  let turn: Promise<void> = Promise.resolve();
  let readOnly = false;

  async function connect(): Promise<void> {
    const next = new pg.Client({ ...clientConfig(options), query_timeout: 10_000 });
    next.on("error", (error) => {
      lost(next, error);
    });
    next.on("end", () => {
      lost(next, new Error("the connection ended"));
    });
    try {
      await next.connect();
      await next.query(sessionSettings);
      workerId = await announceWorker(next);
    } catch (error) {
      await closeClient(next);
      throw error;
    }
    held.clear();
    client = next;
  }

  function lost(which: pg.Client, error: unknown): void {
    if (which !== client || stopping.signal.aborted) return;
    client = null;
    held.clear();
    void closeClient(which);
    readOnly ||= isReadOnly(error);
    log.warn(
      { cause: messageOf(error) },
      isReadOnly(error)
        ? "the server takes no writes, reconnecting until it does"
        : "lost the database connection, reconnecting",
    );
    reconnecting ??= reconnect().finally(() => (reconnecting = null));
  }

  async function reconnect(): Promise<void> {
    for (let attempt = 0; !stopping.signal.aborted; attempt++) {
      await sleep(backoffMs(attempt, 100, 2_000), stopping.signal);
      if (stopping.signal.aborted) return;
      try {
        await connect();
        log.info({}, "connected to the database again");
        const wasReadOnly = readOnly;
        readOnly = false;
        options.onReconnect(wasReadOnly);
        return;
      } catch (error) {
        readOnly ||= isReadOnly(error);
        log.debug({ cause: messageOf(error) }, "could not connect");
        options.onConnectError(error);
      }
    }
  }

  /** One query at a time: pg deprecates queueing them itself. */
  function onClient<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    const result = turn.then(() => query(work));
    turn = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }

  async function query<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    const current = client;
    if (current === null) throw new Error("not connected to the database");
    try {
      return await work(current);
    } catch (error) {
      // After a timeout on this side, the connection cannot be trusted.
      if (!(error instanceof pg.DatabaseError)) {
        if (current === client) options.onSilence();
        lost(current, error);
      } else if (isReadOnly(error)) lost(current, error);
      throw error;
    }
  }

  await connect();
  return {
    get workerId() {
      return workerId;
    },
    async tryGate(pipelineId, lookForSleeper) {
      const answer = await onClient((c) => tryGate(c, pipelineId, lookForSleeper));
      if (answer === "granted") held.add(pipelineId);
      return answer;
    },
    async releaseGate(pipelineId) {
      if (!held.delete(pipelineId)) return;
      await onClient((c) => releaseGate(c, pipelineId));
    },
    gateHolders: (pipelineId) => onClient((c) => gateHolders(c, pipelineId)),
    serve: (pipelineId, model) => onClient((c) => serve(c, pipelineId, workerId, model)),
    unserve: (pipelineId) => onClient((c) => unserve(c, pipelineId, workerId)),
    due: (pipelineIds) => onClient((c) => duePipelines(c, pipelineIds)),
    beat: (heardMsAgo) => onClient((c) => beat(c, workerId, heardMsAgo)),
    renew: (cause) => {
      if (client !== null) lost(client, cause);
    },
    interrupt() {
      stopping.abort();
      if (client !== null) interrupt(client);
    },
    async stop() {
      stopping.abort();
      await reconnecting;
      const last = client;
      if (last === null) return;
      await onClient((c) => depart(c, workerId)).catch(() => undefined);
      client = null;
      await closeClient(last);
    },
  };
}
