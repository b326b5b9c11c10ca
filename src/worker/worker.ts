import type { Pool } from "pg";
import { DEFAULTS, MIN_CONNECTIONS } from "../defaults.js";
import { configurationError } from "../errors.js";
import { limitRepeats, silentLogger } from "../logger.js";
import { releaseWorker } from "./claim/leases.sql.js";
import { refusePooler } from "../database/inspect-connection.js";
import { explainSchemaError } from "../database/call-schema.js";
import { explainConnectionError } from "../database/connection-error.js";
import { interrupt } from "../database/interrupt.js";
import { connectionLimit } from "../database/connection-limit.sql.js";
import { WORKER_ROLE_HINT, describeSuperuser, superuserName } from "../database/superuser.sql.js";
import { clientsOf, connectionDropper, createPool, onReadOnly } from "../database/pool.js";
import type { ConnectOptions } from "../database/pool.js";
import { PIPELINES_CHANGED, openListener } from "./wake/listener.js";
import { createHeldRows } from "./write/held-rows.js";
import type { HeldRows } from "./write/held-rows.js";
import { createPipelineSet } from "./pipeline-set.js";
import type { FailingPipeline, PipelineSet } from "./pipeline-set.js";
import { createSchemaWatch } from "./schema-watch.js";
import { runnerStarter } from "./runner-starter.js";
import { shutDown, workerStops } from "./shut-down.js";
import type { Base } from "./shut-down.js";
import { startTimers } from "./timers.js";
import { createStopStack } from "./stop-stack.js";
import { checkWorkerOptions } from "./check-options.js";
import type { WorkerOptions } from "./worker-options.js";
import { openPresence } from "./wake/presence.js";
import type { Presence } from "./wake/presence.js";
import { createReuse, noReuse } from "./embed/reuse.js";
import { createUsage } from "./embed/usage.js";
import { createVectorIndexes } from "./vector-index.js";
import type { VectorIndexes } from "./vector-index.js";

export interface Worker {
  /** Changes when the connection is lost. */
  readonly id: number;
  /**
   * Stops claiming, finishes batches in flight before the deadline, releases the rest. Safe to call twice.
   * @param options `deadlineMs`: milliseconds from now. @default 8000
   */
  stop(options?: { deadlineMs?: number }): Promise<void>;
  /** The dimensions of the columns that it serves, in ascending order. */
  dimensions(): number[];
  /** How many rows kept their vectors from being written until the worker stopped, such as rows that are locked. */
  heldRows(): number;
  /**
   * Resolves when every served pipeline has an empty backlog and its index is built, or has to wait for its
   * provider or a daily limit for half a minute or longer; and when the worker is stopped.
   */
  idle(options?: IdleOptions): Promise<IdleReport>;
}

export interface IdleOptions {
  /** Also resolves when what is left fails again and again, as when the database refuses the worker. @default false */
  giveUp?: boolean;
}

export interface IdleReport {
  /** Pipelines that have to wait, or fail, each with its last error. */
  failing: FailingPipeline[];
  /** Why pipelines of the worker's model are not served. */
  problems: string[];
}

/**
 * Starts a worker in this process. It serves every pipeline of its provider's model until it is stopped.
 * @throws EmbeddError of kind `configuration` if none of the pipelines can be served as they stand, or with code
 *   `pooler` if a transaction pooler stands between it and PostgreSQL
 * @throws EmbeddError with code `database_unreachable`, `database_unavailable`, `login`, `no_such_database` or `tls` if the
 *   database cannot be reached; nothing is left open then
 * @throws an error if `options.signal` ends the start
 */
export async function createWorker(options: WorkerOptions): Promise<Worker> {
  checkWorkerOptions(options);
  const base = openBase(options);
  let parts: Parts;
  const onAbort = (): void => {
    base.abort.abort(workerStops());
    for (const cut of base.interrupts) cut();
  };
  options.signal?.addEventListener("abort", onAbort);
  try {
    options.signal?.throwIfAborted();
    parts = await openParts(options, base);
    options.signal?.throwIfAborted();
  } catch (error) {
    await shutDown(base, 0).catch(() => undefined);
    throw explainConnectionError(explainSchemaError(error), options.databaseUrl);
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
  }
  const { presence, pipelines, indexes, held } = parts;
  let stopped: Promise<void> | null = null;
  return {
    get id() {
      return presence.workerId;
    },
    async stop({ deadlineMs = DEFAULTS.shutdownMs } = {}) {
      // Claiming stops at once, however long the resources on top of the stack take to stop.
      if (stopped === null) void pipelines.stop();
      stopped ??= shutDown(base, deadlineMs);
      await stopped;
    },
    dimensions: () => pipelines.dimensions(),
    heldRows: () => held.left(),
    async idle({ giveUp = false } = {}) {
      await pipelines.idle(giveUp);
      if (stopped === null) await indexes.idle();
      return { failing: pipelines.failing(), problems: pipelines.problems() };
    },
  };
}

function openBase(options: WorkerOptions): Base {
  const { maxConnections = DEFAULTS.maxConnections } = options;
  const pool = createPool({ ...connectionOf(options, "worker"), max: poolSize(maxConnections) });
  const clients = clientsOf(pool);
  const stack = createStopStack();
  stack.push(() => pool.end());
  return {
    log: limitRepeats(options.log ?? silentLogger),
    pool,
    stack,
    abort: new AbortController(),
    dropConnections: connectionDropper(pool),
    interrupts: [
      () => {
        clients.forEach(interrupt);
      },
    ],
  };
}

/** What is left of the connections besides those of the presence and the listener. */
const poolSize = (connections: number): number => Math.max(connections - (MIN_CONNECTIONS - 1), 1);

/** A pool that asks for more connections than its role may open would fail again and again. */
async function limitPool(pool: Pool): Promise<void> {
  const limit = await connectionLimit(pool);
  if (limit !== null) pool.options.max = Math.min(pool.options.max, poolSize(limit));
}

/** @param part is shown in pg_stat_activity */
function connectionOf({ databaseUrl }: WorkerOptions, part: string): ConnectOptions {
  return { connectionString: databaseUrl, applicationName: `embedd ${part}` };
}

interface Parts {
  presence: Presence;
  pipelines: PipelineSet;
  indexes: VectorIndexes;
  held: HeldRows;
}

async function openParts(options: WorkerOptions, base: Base): Promise<Parts> {
  const { provider, takeoverMs = DEFAULTS.takeoverMs } = options;
  const { log, pool, stack, dropConnections, interrupts } = base;
  let renewPresence: (cause: unknown) => void = () => undefined;
  onReadOnly(pool, (error) => {
    renewPresence(error);
  });
  await requireSessions(options, pool);
  const schema = createSchemaWatch(log, options);
  const sweepAll = () => {
    pipelines.refreshSoon();
    pipelines.wakeAll();
  };
  const presence = await openPresence({
    ...connectionOf(options, "presence"),
    log,
    onSilence: dropConnections,
    onConnectError: schema.failed,
    onReconnect: (wasReadOnly) => {
      if (wasReadOnly) {
        dropConnections();
        listener.reopen("the server was read-only");
      }
      sweepAll();
    },
  });
  renewPresence = presence.renew;
  stack.push(() => presence.stop());
  interrupts.push(() => {
    presence.interrupt();
  });
  stack.push(() => releaseWorker(pool, presence.workerId).catch(() => undefined));
  await limitPool(pool);
  const superuser = await superuserName(pool);
  if (superuser !== null) log.warn({ try: WORKER_ROLE_HINT }, describeSuperuser(superuser));

  const limits = { tokens: options.maxTokensPerDay ?? null, usd: options.maxUsdPerDay ?? null };
  const usage = createUsage(pool, provider, limits, log);
  stack.push(() => usage.stop());
  const reuse =
    (options.reuse ?? DEFAULTS.reuse)
      ? createReuse(pool, { maxBytes: (options.reuseMaxMb ?? DEFAULTS.reuseMaxMb) * 2 ** 20, log })
      : noReuse;
  const indexes = createVectorIndexes(pool, { ...connectionOf(options, "index"), log });
  stack.push(() => indexes.stop());
  const leases = new Set<string>();
  const held = createHeldRows(
    leases,
    (pipeline, outcome) => {
      if (outcome.written + outcome.failed > 0)
        options.onBatch?.(pipeline, { ...outcome, computed: 0, released: 0, embedMs: 0 });
    },
    ({ id }) => {
      pipelines.wake(id);
    },
  );
  stack.push(() => held.stop());

  const onShapeError = () => {
    pipelines.refreshSoon();
  };
  const shared = { presence, usage, reuse, leases, held, indexes, onShapeError };
  const startRunner = runnerStarter(options, base, shared);
  const pipelines = createPipelineSet({ pool, provider, log, presence, startRunner, takeoverMs });
  stack.push(() => pipelines.stop());
  const listener = await openListener({
    ...connectionOf(options, "listener"),
    log,
    onNotification: (payload) => {
      if (payload === PIPELINES_CHANGED) pipelines.refreshSoon();
      else pipelines.wake(Number(payload));
    },
    onReconnect: sweepAll,
    proofIntervalMs: options.listenerProofMs,
  });
  stack.push(() => listener.stop());
  await pipelines.refresh();
  if (pipelines.ids().length === 0 && pipelines.problems().length > 0 && !pipelines.waits()) {
    throw configurationError("no_pipeline", pipelines.problems().join("; "), "embedd status");
  }
  startTimers(options, base, { presence, listener, pipelines, schema, leases, sweepAll });
  return { presence, pipelines, indexes, held };
}

/** @throws EmbeddError with code `pooler` */
async function requireSessions({ databaseUrl }: WorkerOptions, pool: Pool): Promise<void> {
  const client = await pool.connect();
  try {
    await refusePooler(client, databaseUrl);
  } finally {
    client.release();
  }
}
