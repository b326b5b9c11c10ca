import { once } from "node:events";
import type { Command } from "commander";
import { backoffMs } from "../backoff.js";
import type { Config } from "../config.js";
import { MIN_CONNECTIONS } from "../defaults.js";
import { EmbeddError, configurationError, messageOf } from "../errors.js";
import { createProvider } from "../providers/create-provider.js";
import { countPending } from "../admin/status.sql.js";
import { withOwnerClient } from "../database/pool.js";
import { createWorker } from "../worker/worker.js";
import type { Worker } from "../worker/worker.js";
import { sleep } from "../sleep.js";
import { withContext } from "./context.js";
import type { Context } from "./context.js";
import { EXIT } from "./exit.js";
import { backlogProgress } from "./progress.js";
import { Interrupted, stopSignal, unlessStopped } from "./signals.js";
import { reportOnce } from "./report-once.js";
import { counted } from "./text.js";
import { print } from "./print.js";

export function addRun(program: Command): void {
  program
    .command("run")
    .description("embed existing and new rows until SIGTERM or Ctrl-C")
    .option(
      "--once",
      "embed the backlog with a progress bar, then exit; exit code 3 if rows failed or must wait, 1 if the provider or the database keeps failing",
    )
    .option("--wait", "with --once: keep trying until the provider and the database work again")
    .option(
      "--max-tokens-per-day <n>",
      "pause until midnight UTC at this many API tokens (EMBEDD_MAX_TOKENS_PER_DAY)",
    )
    .option(
      "--max-usd-per-day <n>",
      "pause until midnight UTC at this cost, by list price (EMBEDD_MAX_USD_PER_DAY)",
    )
    .addHelpText("after", "\nExample:\n  DATABASE_URL=postgres://me@localhost/app embedd run")
    .action(async ({ once = false, wait = false }: { once?: boolean; wait?: boolean }, command: Command) => {
      if (wait && !once)
        throw configurationError("settings", "--wait needs --once", "embedd run --once --wait");
      const patient = !once || wait;
      const run = async (context: Context): Promise<void> => {
        if (!once) announceStop(context);
        const provider = await unlessStopped(loadProvider(context, patient));
        try {
          await (once ? runOnce(context, provider, patient) : runUntilStopped(context, provider));
        } finally {
          await provider.close();
        }
      };
      try {
        await withContext(command, run, { stopsItself: true });
      } catch (error) {
        // A daemon that is told to stop before it is ready has done what it was told.
        if (!(error instanceof Interrupted) || once) throw error;
      }
    });
}

/** Says so at once, also if a signal comes while the model is loading or the worker is starting. */
function announceStop({ log }: Context): void {
  const announce = (): void => {
    log.info({ signal: (stopSignal.reason as Interrupted).signalName }, "stopping");
  };
  if (stopSignal.aborted) announce();
  else stopSignal.addEventListener("abort", announce, { once: true });
}

type LoadedProvider = Awaited<ReturnType<typeof createProvider>>;

/** Some servers must be asked for their model's dimensions. If such a server is down, this waits for it if `patient`. */
async function loadProvider({ config, log }: Context, patient: boolean): Promise<LoadedProvider> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await createProvider({ ...config, log });
    } catch (error) {
      if (!patient || !(error instanceof EmbeddError) || error.kind !== "provider") throw error;
      const ms = error.retryAfterMs ?? 1_000 + backoffMs(attempt, 1_000, 30_000);
      log.warn(
        { code: error.code, cause: error.message, retryInMs: Math.round(ms) },
        "the provider failed, trying again",
      );
      await sleep(ms, stopSignal);
      stopSignal.throwIfAborted();
    }
  }
}

/** too_many_connections */
const NO_SLOT = "53300";
/** The connections of a command that has just ended are free again by then. */
const HURRIED_ATTEMPTS = 4;

/**
 * Starts a worker as soon as the database takes its connections.
 * @param patient otherwise it gives up after a few attempts
 * @throws Interrupted if a signal comes first
 */
async function startPatiently(
  context: Context,
  patient: boolean,
  start: () => Promise<Worker>,
): Promise<Worker> {
  for (let attempt = 0; ; attempt++) {
    const starting = start();
    try {
      return await unlessStopped(starting);
    } catch (error) {
      // A signal does not wait for it.
      void starting.then((worker) => worker.stop({ deadlineMs: 0 })).catch(() => undefined);
      if (
        !(error instanceof EmbeddError) ||
        error.code !== "database_unavailable" ||
        (!patient && attempt >= HURRIED_ATTEMPTS)
      )
        throw error;
      const ms = 100 + backoffMs(attempt, 500, 30_000);
      const { code } = error.cause as { code?: unknown };
      const hint = code === NO_SLOT ? `; a worker needs ${MIN_CONNECTIONS} connections` : "";
      context.log.warn(
        { code, cause: messageOf(error), retryInMs: Math.round(ms) },
        `the database refuses connections, trying again${hint}`,
      );
      await sleep(ms, stopSignal);
      stopSignal.throwIfAborted();
    }
  }
}

/** Aborted when the process that serves embedded PostgreSQL has ended. */
function goneWith({ embedded }: Context): AbortController {
  const gone = new AbortController();
  const follow = (): void => {
    gone.abort(embedded?.lost.reason);
  };
  if (embedded?.lost.aborted === true) follow();
  embedded?.lost.addEventListener("abort", follow, { once: true });
  return gone;
}

/** Starts a worker with the settings of the command line. `gone` is aborted if embedd's schema is dropped for good. */
export function startWorker(
  { config, databaseUrl, log }: Context,
  provider: LoadedProvider,
  onRows: (written: number, failed: number) => void,
  gone?: AbortController,
): Promise<Worker> {
  return createWorker({
    databaseUrl,
    provider,
    log,
    signal: stopSignal,
    maxBatchRows: config.maxBatchRows,
    batchMs: config.batchMs,
    maxConnections: config.maxConnections,
    pollIntervalMs: config.pollIntervalMs,
    leaseMs: config.leaseMs,
    maxChars: config.maxChars,
    maxClaimChars: config.maxClaimChars,
    maxTokensPerDay: config.maxTokensPerDay,
    maxUsdPerDay: config.maxUsdPerDay,
    maxAttempts: config.maxAttempts,
    retryDelayMs: config.retryDelayMs,
    reuse: config.reuse,
    reuseMaxMb: config.reuseMaxMb,
    onGone: (error) => {
      gone?.abort(error);
    },
    onBatch: (_, outcome) => {
      onRows(outcome.written, outcome.failed);
    },
  });
}

async function runUntilStopped(context: Context, provider: LoadedProvider): Promise<void> {
  const { log, config } = context;
  let rows = 0;
  let failed = 0;
  const gone = goneWith(context);
  const count = (w: number, f: number): void => {
    rows += w;
    failed += f;
  };
  const worker = await startPatiently(context, true, () => startWorker(context, provider, count, gone));
  // At most one line per second, however fast rows arrive.
  const report = setInterval(() => {
    if (rows + failed === 0) return;
    log.info({ rows, ...(failed > 0 && { failed }) }, "embedded");
    rows = failed = 0;
  }, 1_000);
  log.info({ worker: worker.id, model: provider.model, dimensions: worker.dimensions() }, "ready");
  const end = AbortSignal.any([stopSignal, gone.signal]);
  if (!end.aborted) await once(end, "abort");
  if (!stopSignal.aborted) log.info({}, "stopping");
  await worker.stop({ deadlineMs: workerDeadlineMs(config) });
  clearInterval(report);
  log.info({}, "stopped");
  if (!stopSignal.aborted) gone.signal.throwIfAborted();
  process.exitCode = EXIT.ok;
}

/** A worker's share of EMBEDD_SHUTDOWN_MS; the model and the command's own connections are closed in the rest. */
const workerDeadlineMs = ({ shutdownMs }: Config): number => Math.max(shutdownMs - 500, shutdownMs / 2);

async function runOnce(context: Context, provider: LoadedProvider, wait: boolean): Promise<void> {
  const { databaseUrl, config } = context;
  // A connection that stays open would be one more than the worker needs.
  const total = await unlessStopped(
    withOwnerClient(databaseUrl, (client) => countPending(client, provider.model), stopSignal),
  );
  const progress = backlogProgress(total);
  try {
    const gone = goneWith(context);
    let embedded = 0;
    const count = (written: number, failed: number): void => {
      embedded += written;
      progress.add(written + failed);
    };
    const worker = await startPatiently(context, wait, () =>
      startWorker({ ...context, log: progress.above(context.log) }, provider, count, gone),
    );
    progress.show();
    const stop = () => worker.stop({ deadlineMs: workerDeadlineMs(config) });
    AbortSignal.any([stopSignal, gone.signal]).addEventListener("abort", () => void stop());
    const report = await worker.idle({ giveUp: !wait });
    await stop();
    progress.stop();
    const nothing = total === 0 && progress.rows() === 0;
    print(
      nothing
        ? "nothing to do: 0 rows are pending for this worker\n"
        : `${counted(embedded, "row")} in ${(progress.ms() / 1000).toFixed(1)} s\n`,
    );
    stopSignal.throwIfAborted();
    gone.signal.throwIfAborted();
    await unlessStopped(reportOnce(context, report, { held: worker.heldRows(), model: provider.model }));
  } finally {
    progress.stop();
  }
}
