import pg from "pg";
import { messageOf } from "../../errors.js";
import type { Logger } from "../../logger.js";
import { announceWorker, releaseGate, tryGate } from "./gate.sql.js";
import type { GateAnswer } from "./gate.sql.js";
import { duePipelines } from "./due-pipelines.sql.js";
import { serve, unserve } from "./serve.sql.js";
import type { ServeAnswer } from "./serve.sql.js";
import { clientConfig, sessionSettings } from "../../database/pool.js";
import type { ConnectOptions } from "../../database/pool.js";
import { backoffMs } from "../../backoff.js";
import { atMost, sleep } from "../../sleep.js";

/**
 * The connection whose life is the worker's life: it holds the lock that keeps the worker's leases valid,
 * the gates while the worker sleeps, and what says which pipelines it serves. When it ends, so do all of them at once, kill -9 included.
 */
export interface Presence {
  /** Changes with every new connection. */
  readonly workerId: number;
  tryGate(pipelineId: number, lookForSleeper: boolean): Promise<GateAnswer>;
  releaseGate(pipelineId: number): Promise<void>;
  /** Becomes one of those who serve a pipeline, unless living workers of another model do. */
  serve(pipelineId: number, model: string): Promise<ServeAnswer>;
  unserve(pipelineId: number): Promise<void>;
  /** The pipelines that something has fallen due in. Every call proves the connection. */
  due(pipelineIds: readonly number[]): Promise<number[]>;
  stop(): Promise<void>;
}

export interface PresenceOptions extends ConnectOptions {
  log: Logger;
  /** A query had no answer in time, and the connection was not closed either: others may be as dead. */
  onSilence: () => void;
  /** The gates were lost with the connection, and a new one is there. */
  onReconnect: () => void;
}

/** Connects, or throws; later losses are mended for ever. */
export async function openPresence(options: PresenceOptions): Promise<Presence> {
  const { log } = options;
  const stopping = new AbortController();
  const held = new Set<number>();
  let client: pg.Client | null = null;
  let workerId = 0;
  let reconnecting: Promise<void> | null = null;
  let turn: Promise<void> = Promise.resolve();

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
      next.end().catch(() => undefined);
      throw error;
    }
    held.clear();
    client = next;
  }

  function lost(which: pg.Client, error: unknown): void {
    if (which !== client || stopping.signal.aborted) return;
    client = null;
    held.clear();
    which.end().catch(() => undefined);
    log.warn({ cause: messageOf(error) }, "lost the database connection, reconnecting");
    reconnecting ??= reconnect().finally(() => (reconnecting = null));
  }

  async function reconnect(): Promise<void> {
    for (let attempt = 0; !stopping.signal.aborted; attempt++) {
      await sleep(backoffMs(attempt, 100, 2_000), stopping.signal);
      if (stopping.signal.aborted) return;
      try {
        await connect();
        log.info({}, "connected to the database again");
        options.onReconnect();
        return;
      } catch (error) {
        log.debug({ cause: messageOf(error) }, "could not connect");
      }
    }
  }

  /** One query at a time, as pg wants it. */
  function onClient<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    const result = turn.then(() => query(work));
    turn = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }

  async function query<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    const present = client;
    if (present === null) throw new Error("not connected to the database");
    try {
      return await work(present);
    } catch (error) {
      // A timeout of ours leaves a connection that nobody can trust.
      if (!(error instanceof pg.DatabaseError)) {
        if (present === client) options.onSilence();
        lost(present, error);
      }
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
    serve: (pipelineId, model) => onClient((c) => serve(c, pipelineId, workerId, model)),
    unserve: (pipelineId) => onClient((c) => unserve(c, pipelineId)),
    due: (pipelineIds) => onClient((c) => duePipelines(c, pipelineIds)),
    async stop() {
      stopping.abort();
      await reconnecting;
      const last = client;
      client = null;
      // One that is only half open would not end by itself.
      if (last !== null) await atMost(1_000, last.end());
      last?.connection.stream.destroy();
    },
  };
}
