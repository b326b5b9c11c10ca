import type { Command } from "commander";
import type { Pool } from "pg";
import { configurationError } from "../errors.js";
import { callSchema } from "../database/call-schema.js";
import { pipelinesOf, reembedding, startReembedding, stopReembedding } from "../admin/request-reembed.sql.js";
import { countWorkers, readStatus } from "../admin/status.sql.js";
import type { PipelineStatus } from "../admin/status.sql.js";
import { sleep } from "../sleep.js";
import { withContext } from "./context.js";
import { EXIT } from "./exit.js";
import { watchedProgress } from "./progress.js";

interface ReembedFlags {
  table?: string;
  wait: boolean;
  stop?: boolean;
}

export function addReembed(program: Command): void {
  program
    .command("reembed")
    .description("embed rows of an older model again with the present one, after all others")
    .option("--table <name>", "only this table (default: all)")
    .option("--no-wait", "do not wait for the end; the workers go on by themselves")
    .option("--stop", "leave what is not yet done as it is")
    .addHelpText("after", "\nExample:\n  embedd reembed --table docs")
    .action(async (flags: ReembedFlags, command: Command) => {
      await withContext(command, async ({ pool }) => {
        const ids = await callSchema(() => pipelinesOf(pool, flags.table));
        if (ids.length === 0)
          throw configurationError(
            "not_watched",
            `${flags.table ?? "no table"} is not watched`,
            "embedd status",
          );
        await (flags.stop === true ? stop(pool, ids) : start(pool, ids, flags.wait));
      });
    });
}

async function stop(pool: Pool, ids: readonly number[]): Promise<void> {
  const count = await callSchema(() => stopReembedding(pool, ids));
  process.stdout.write(
    count === 0
      ? "nothing is being embedded again\n"
      : "stopped; what is done stays, and embedd reembed goes on\n",
  );
}

async function start(pool: Pool, ids: readonly number[], wait: boolean): Promise<void> {
  const pipelines = await readThese(pool, ids);
  for (const { relation, error } of pipelines) {
    if (error === null) continue;
    process.stderr.write(
      `${relation} is not served: ${error}\n  try: embedd status; for a model of other dimensions embedd switch-model\n`,
    );
    process.exitCode = EXIT.no;
  }
  const stale = pipelines.filter((p) => p.error === null && countStale([p]) > 0);
  if (stale.length === 0) {
    const unknown = pipelines.some((p) => p.currentModel === null && (p.done ?? 0) > 0);
    process.stdout.write("no row has a vector of another model than the present one\n");
    if (unknown) process.stderr.write("which model that is, is not known before a worker ran: embedd run\n");
    return;
  }
  for (const pipeline of stale) process.stdout.write(describe(pipeline));
  const started = stale.map((p) => p.pipeline);
  await callSchema(() => startReembedding(pool, started));
  if ((await countWorkers(pool)) === 0) {
    process.stderr.write("no worker is connected, and it begins when one is: embedd run\n");
    process.exitCode = EXIT.no;
    return;
  }
  const running = stale.filter((p) => !p.paused).map((p) => p.pipeline);
  if (wait && running.length > 0) await watch(pool, running, countStale(stale.filter((p) => !p.paused)));
}

/** Shows how far it is until it is done; Ctrl-C ends only this. */
async function watch(pool: Pool, ids: readonly number[], total: number): Promise<void> {
  const interrupted = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.once(name, () => {
      interrupted.abort();
    });
  }
  const progress = watchedProgress("embedding again", total);
  let left = total;
  let countAt = 0;
  while (!interrupted.signal.aborted) {
    const over = (await reembedding(pool, ids)).length === 0;
    if (over || performance.now() >= countAt) {
      const began = performance.now();
      left = countStale(await readThese(pool, ids));
      progress.left(left);
      // Counting walks over whole tables.
      countAt = performance.now() + Math.max(1_000, 20 * (performance.now() - began));
    }
    if (over) break;
    await sleep(200, interrupted.signal);
  }
  progress.stop();
  if (interrupted.signal.aborted) {
    process.stderr.write("the workers go on: embedd status; embedd reembed --stop\n");
    return;
  }
  const seconds = (progress.ms() / 1000).toFixed(1);
  process.stdout.write(`${Math.max(total - left, 0)} rows embedded again in ${seconds} s\n`);
  if (left > 0) {
    process.stderr.write(`${left} rows keep their old vectors: embedd failures\n`);
    process.exitCode = EXIT.no;
  }
}

async function readThese(pool: Pool, ids: readonly number[]): Promise<PipelineStatus[]> {
  return (await readStatus(pool)).filter((p) => ids.includes(p.pipeline));
}

const countStale = (pipelines: readonly PipelineStatus[]): number =>
  pipelines.reduce((sum, p) => sum + (p.stale ?? 0), 0);

/** Which vectors will be replaced, so that nobody is surprised. */
function describe({ relation, embedding, doneByModel, currentModel, paused }: PipelineStatus): string {
  const old = Object.entries(doneByModel ?? {}).filter(([model]) => model !== currentModel);
  const rows = old.map(([model, count]) => `${count} rows of ${model === "" ? "no named model" : model}`);
  return (
    `${relation}.${embedding}: ${rows.join(", ")}, to be replaced by vectors of ${currentModel ?? "?"}` +
    `${paused ? `; it is paused: embedd resume ${relation}` : ""}\n`
  );
}
