import type { Command } from "commander";
import { backoffMs } from "../backoff.js";
import { EmbeddError } from "../errors.js";
import { createProvider } from "../providers/create-provider.js";
import { readStatus } from "../admin/status.sql.js";
import { createWorker } from "../worker/worker.js";
import type { Worker } from "../worker/worker.js";
import { sleep } from "../sleep.js";
import { withContext } from "./context.js";
import type { Context } from "./context.js";
import { EXIT } from "./exit.js";
import { backlogProgress } from "./progress.js";
import { onStopSignal } from "./signals.js";
import { counted } from "./text.js";

export function addRun(program: Command): void {
  program
    .command("run")
    .description("embed existing and new rows until SIGTERM or Ctrl-C")
    .option(
      "--once",
      "embed the backlog with a progress bar, then exit; exit code 3 if rows failed or must wait",
    )
    .option(
      "--max-tokens-per-day <n>",
      "pause until midnight UTC at this many API tokens (EMBEDD_MAX_TOKENS_PER_DAY)",
    )
    .option(
      "--max-usd-per-day <n>",
      "pause until midnight UTC at this cost, by list price (EMBEDD_MAX_USD_PER_DAY)",
    )
    .addHelpText("after", "\nExample:\n  DATABASE_URL=postgres://me@localhost/app embedd run")
    .action(async (flags: { once?: boolean }, command: Command) => {
      await withContext(command, async (context) => {
        const provider = await loadProvider(context, flags.once === true);
        try {
          await (flags.once === true ? runOnce(context, provider) : runUntilStopped(context, provider));
        } finally {
          await provider.close();
        }
      });
    });
}

type LoadedProvider = Awaited<ReturnType<typeof createProvider>>;

/**
 * Some servers must be asked for their model's dimensions. If such a server is down, this waits for it, except with
 * `once`.
 */
async function loadProvider({ config, log }: Context, once: boolean): Promise<LoadedProvider> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await createProvider({ ...config, log });
    } catch (error) {
      if (once || !(error instanceof EmbeddError) || error.kind !== "provider") throw error;
      const ms = error.retryAfterMs ?? 1_000 + backoffMs(attempt, 1_000, 30_000);
      log.warn(
        { code: error.code, cause: error.message, retryInMs: Math.round(ms) },
        "the provider failed, trying again",
      );
      await sleep(ms);
    }
  }
}

/** Starts a worker with the settings of the command line. */
export function startWorker(
  { config, databaseUrl, log }: Context,
  provider: LoadedProvider,
  onRows: (written: number, failed: number) => void,
): Promise<Worker> {
  return createWorker({
    databaseUrl,
    provider,
    log,
    maxBatchRows: config.maxBatchRows,
    batchMs: config.batchMs,
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
    onBatch: (_, outcome) => {
      onRows(outcome.written, outcome.failed);
    },
  });
}

async function runUntilStopped(context: Context, provider: LoadedProvider): Promise<void> {
  const { log, config } = context;
  let rows = 0;
  let failed = 0;
  const worker = await startWorker(context, provider, (w, f) => {
    rows += w;
    failed += f;
  });
  // At most one line per second, however fast rows arrive.
  const report = setInterval(() => {
    if (rows + failed === 0) return;
    log.info({ rows, ...(failed > 0 && { failed }) }, "embedded");
    rows = failed = 0;
  }, 1_000);
  log.info({ worker: worker.id, model: provider.model, dimensions: provider.dimensions }, "ready");
  const signal = await new Promise<NodeJS.Signals>(onStopSignal);
  log.info({ signal }, "stopping");
  let stopped = false;
  if (context.embedded === null) {
    // A half-open connection or a running inference would keep the process alive.
    const exit = () => process.exit(stopped ? EXIT.ok : EXIT.fault);
    setTimeout(exit, config.shutdownMs + 1_000).unref();
  }
  await worker.stop({ deadlineMs: config.shutdownMs });
  stopped = true;
  clearInterval(report);
  log.info({}, "stopped");
}

async function runOnce(context: Context, provider: LoadedProvider): Promise<void> {
  const progress = await backlogProgress(context.pool, provider.model);
  const worker = await startWorker(context, provider, (written, failed) => {
    progress.add(written + failed);
  });
  let interrupted = false;
  onStopSignal(() => {
    interrupted = true;
    void worker.stop({ deadlineMs: context.config.shutdownMs });
  });
  await worker.idle();
  await worker.stop();
  progress.stop();
  const status = await readStatus(context.pool);
  const left = status.reduce((sum, p) => sum + p.failed + p.dead, 0);
  process.stdout.write(`${counted(progress.rows(), "row")} in ${(progress.ms() / 1000).toFixed(1)} s\n`);
  if (left > 0) {
    process.stderr.write(`${counted(left, "row")} failed; list them with: embedd failures\n`);
    process.exitCode = EXIT.no;
  }
  for (const { relation, pending, waitReason } of status) {
    if (waitReason === null || pending === 0) continue;
    process.stderr.write(`pending rows of ${relation}: ${pending ?? "?"}; the worker waits: ${waitReason}\n`);
    process.exitCode = EXIT.no;
  }
  if (interrupted) process.exitCode = EXIT.fault;
}
