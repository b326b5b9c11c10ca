import { DEFAULTS } from "../defaults.js";
import { EmbeddError, configurationError } from "../errors.js";
import type { Logger } from "../logger.js";
import { limitRepeats, silentLogger } from "../logger.js";
import type { Provider } from "../providers/provider.js";
import { releaseWorker, renewLeases } from "./claim/leases.sql.js";
import type { Pipeline } from "../database/pipeline.js";
import { connectionDropper, createPool } from "../database/pool.js";
import { FIRST_WRITE_ROWS } from "./batch.js";
import type { BatchOutcome } from "./batch.js";
import { PIPELINES_CHANGED, openListener } from "./wake/listener.js";
import type { Listener } from "./wake/listener.js";
import { createLockedRows } from "./write/held-rows.js";
import { runPipeline } from "./pipeline-runner.js";
import type { PipelineRunner, RunnerState } from "./pipeline-runner.js";
import { createPipelineSet } from "./pipeline-set.js";
import { openPresence } from "./wake/presence.js";
import { createReuse, noReuse } from "./embed/reuse.js";
import { createUsage } from "./embed/usage.js";
import { atMost } from "../sleep.js";
import { createVectorIndexes } from "./vector-index.js";
import { templateOf } from "./embed/template.js";

export interface WorkerOptions {
  /** A direct connection: LISTEN and session locks do not pass a transaction pooler. */
  databaseUrl: string;
  provider: Provider;
  /** @default silent */
  log?: Logger;
  /** The most rows a claim. @default 512, or what fills a provider's request */
  maxBatchRows?: number | undefined;
  /** How long a batch should take to embed; the rows of a claim follow. @default 500 */
  batchMs?: number;
  /** A net for what no trigger sees, such as replication. @default 30000 */
  pollIntervalMs?: number;
  /** A worker that stopped without its connection ending loses its rows after this. @default 15000 */
  leaseMs?: number;
  /** Characters read of each content column. @default 65536 */
  maxChars?: number;
  /** Characters that a claim may hold, about; bounds the memory of a worker. @default 4000000 */
  maxClaimChars?: number;
  /** A row that failed this often with one text is dead. @default 5 */
  maxAttempts?: number;
  /** Before the second attempt of a failed row; doubles each time. @default 10000 */
  retryDelayMs?: number;
  /** Tokens that all workers of the database together send to an API in a day (UTC). @default no limit */
  maxTokensPerDay?: number | undefined;
  /** The same in US dollars, estimated by the model's list price. @default no limit */
  maxUsdPerDay?: number | undefined;
  /** Texts that the model has embedded before take the vector that it made then. @default true */
  reuse?: boolean;
  /** Vectors are kept for that up to this size; the least recently used go first. @default 1024 */
  reuseMaxMb?: number;
  /** Another model's workers must be gone for this long before this one takes over. @default 30000 */
  takeoverMs?: number;
  onBatch?: (pipeline: Pipeline, outcome: BatchOutcome) => void;
}

export interface Worker {
  /** Changes when the connection is lost. */
  readonly id: number;
  /** Stops claiming, ends what is in flight within the deadline, gives the rest back. Safe to call twice. */
  stop(options?: { deadlineMs?: number }): Promise<void>;
  /**
   * Resolves when every pipeline that is served has found nothing left to do and its index is built, or waits
   * for its provider or a limit for longer than half a minute.
   */
  idle(): Promise<void>;
}

/** How often what falls due is looked for: void leases, retries, pipelines whose workers are gone. */
const DUE_MS = 1_000;

/** Of a stop's deadline; the rest is for writing what is computed, and for giving back what is not. */
const COMPUTING_SHARE = 7 / 8;
/** Closing connections takes some time even where there is none. */
const MIN_CLOSE_MS = 1_000;

/**
 * Starts a worker in this process: it serves every pipeline of its provider's model until it is stopped.
 * @throws EmbeddError of kind `configuration` where no pipeline can be served as they stand
 */
export async function createWorker(options: WorkerOptions): Promise<Worker> {
  const { provider, leaseMs = DEFAULTS.leaseMs, takeoverMs } = options;
  const log = limitRepeats(options.log ?? silentLogger);
  const connection = { connectionString: options.databaseUrl, applicationName: "embedd worker" };
  const pool = createPool({ ...connection, max: 8 });
  const dropConnections = connectionDropper(pool);
  const abort = new AbortController();
  const leases = new Set<string>();
  const locked = createLockedRows(
    leases,
    (pipeline, outcome) => {
      if (outcome.written + outcome.failed > 0)
        options.onBatch?.(pipeline, { ...outcome, computed: 0, givenBack: 0, embedMs: 0 });
    },
    ({ id }) => {
      pipelines.wake(id);
    },
  );
  if (options.maxUsdPerDay !== undefined && provider.usdPerMillionTokens === null) {
    throw configurationError(
      "unknown_price",
      `the price of ${provider.model} is not known, so a limit in dollars cannot be kept`,
      "EMBEDD_USD_PER_MILLION_TOKENS=0.02 embedd run",
    );
  }
  const timers: NodeJS.Timeout[] = [];
  let listener: Listener | undefined;
  let stopped: Promise<void> | null = null;

  const indexes = createVectorIndexes(pool, { ...connection, applicationName: "embedd index", log });
  const limits = { tokens: options.maxTokensPerDay ?? null, usd: options.maxUsdPerDay ?? null };
  const usage = createUsage(pool, provider, limits, log);
  const reuse =
    (options.reuse ?? DEFAULTS.reuse)
      ? createReuse(pool, { maxBytes: (options.reuseMaxMb ?? DEFAULTS.reuseMaxMb) * 2 ** 20, log })
      : noReuse;
  const look = () => {
    pipelines.refreshSoon();
    pipelines.wakeAll();
  };

  const presence = await openPresence({
    ...connection,
    applicationName: "embedd presence",
    log,
    onSilence: dropConnections,
    onReconnect: look,
  }).catch(async (error: unknown) => {
    await pool.end();
    throw error;
  });
  const pipelines = createPipelineSet({ pool, provider, log, presence, startRunner, takeoverMs });
  try {
    listener = await openListener({
      ...connection,
      applicationName: "embedd listener",
      log,
      onNotification: (payload) => {
        if (payload === PIPELINES_CHANGED) pipelines.refreshSoon();
        else pipelines.wake(Number(payload));
      },
      onReconnect: look,
    });
    await pipelines.refresh();
    if (pipelines.ids().length === 0 && pipelines.problems().length > 0 && !pipelines.waits()) {
      throw configurationError("no_pipeline", pipelines.problems().join("; "), "embedd status");
    }
  } catch (error) {
    await shutDown(0);
    throw error;
  }
  timers.push(
    setInterval(() => {
      if (leases.size > 0) renewLeases(pool, [...leases], leaseMs).catch(() => undefined);
    }, leaseMs / 3),
    setInterval(() => {
      if (pipelines.waits()) pipelines.refreshSoon();
      presence
        .due(pipelines.ids())
        .then((due) => {
          for (const id of due) pipelines.wake(id);
        })
        .catch(() => undefined);
    }, DUE_MS),
    setInterval(look, options.pollIntervalMs ?? DEFAULTS.pollIntervalMs),
  );

  function startRunner(pipeline: Pipeline, onState: (state: RunnerState) => void): PipelineRunner {
    return runPipeline(
      {
        pool,
        pipeline,
        kind: "pending",
        provider,
        meter: usage.meter(pipeline.id),
        reuse,
        memory: { writeRows: FIRST_WRITE_ROWS },
        signal: abort.signal,
        template: templateOf(pipeline),
        retry: {
          maxAttempts: options.maxAttempts ?? DEFAULTS.maxAttempts,
          baseDelayMs: options.retryDelayMs ?? DEFAULTS.retryDelayMs,
          maxDelayMs: 3_600_000,
        },
      },
      {
        presence,
        log,
        leaseMs,
        leases,
        locked,
        workerId: () => presence.workerId,
        maxBatchRows: options.maxBatchRows ?? Math.max(DEFAULTS.maxBatchRows, provider.minBatchRows ?? 0),
        batchMs: options.batchMs ?? DEFAULTS.batchMs,
        maxChars: options.maxChars ?? DEFAULTS.maxChars,
        maxClaimChars: options.maxClaimChars ?? DEFAULTS.maxClaimChars,
        onBatch: (outcome) => options.onBatch?.(pipeline, outcome),
        onShapeError: () => {
          pipelines.refreshSoon();
        },
        onState: (state) => {
          if (state === "asleep") indexes.request(pipeline);
          onState(state);
        },
      },
    );
  }

  /** A network that is dead must not keep anybody beyond the deadline. */
  async function shutDown(deadlineMs: number): Promise<void> {
    for (const timer of timers) clearInterval(timer);
    const stopComputing = setTimeout(() => {
      abort.abort(new EmbeddError("the worker stops", { kind: "provider", code: "stopping" }));
    }, deadlineMs * COMPUTING_SHARE);
    let closed = false;
    const closing = close().finally(() => {
      closed = true;
      clearTimeout(stopComputing);
    });
    await atMost(Math.max(deadlineMs, MIN_CLOSE_MS), closing);
    if (closed) return closing;
    log.warn({}, "stopped without an answer from the database; leases end by themselves");
    dropConnections();
  }

  async function close(): Promise<void> {
    await Promise.all([listener?.stop(), pipelines.stop()]);
    await Promise.all([locked.stop(), indexes.stop()]);
    await usage.stop();
    await releaseWorker(pool, presence.workerId).catch(() => undefined);
    await presence.stop();
    await pool.end();
  }

  return {
    get id() {
      return presence.workerId;
    },
    async stop({ deadlineMs = DEFAULTS.shutdownMs } = {}) {
      stopped ??= shutDown(deadlineMs);
      await stopped;
    },
    async idle() {
      await pipelines.idle();
      await indexes.idle();
    },
  };
}
