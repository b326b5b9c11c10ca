import type { Command } from "commander";
import type { Pool } from "pg";
import { callSchema } from "../database/call-schema.js";
import { pipelinesOf, reembedding, startReembedding, stopReembedding } from "../admin/request-reembed.sql.js";
import { shellWord } from "../admin/shell-word.js";
import { countWorkers, readStatus } from "../admin/status.sql.js";
import type { PipelineStatus } from "../admin/status.sql.js";
import { sleep } from "../sleep.js";
import { withContext } from "./context.js";
import { EXIT } from "./exit.js";
import { watchedProgress } from "./progress.js";
import { Interrupted, stopSignal } from "./signals.js";
import { counted, notWatched } from "./text.js";

interface ReembedFlags {
  table?: string;
  wait: boolean;
  stop?: boolean;
}

export function addReembed(program: Command): void {
  program
    .command("reembed")
    .description("re-embed stale rows with the current model, after all pending rows")
    .option("--table <name>", "only this table (default: all)")
    .option("--no-wait", "return at once; the workers re-embed in the background")
    .option("--stop", "stop re-embedding; the remaining rows keep their old vectors")
    .addHelpText("after", "\nExample:\n  embedd reembed --table docs")
    .action(async (flags: ReembedFlags, command: Command) => {
      let followed: number[] = [];
      try {
        await withContext(command, async ({ pool }) => {
          const ids = await callSchema(() => pipelinesOf(pool, flags.table));
          if (ids.length === 0) throw notWatched(flags.table);
          if (flags.stop === true) {
            await stop(pool, ids);
            return;
          }
          const started = await start(pool, ids);
          if (!flags.wait || started.length === 0) return;
          followed = started.map((p) => p.pipeline);
          await follow(pool, followed, countStale(started));
        });
      } catch (error) {
        if (!(error instanceof Interrupted) || followed.length === 0) throw error;
        process.stderr.write(
          "the workers continue; see embedd status, or stop them with: embedd reembed --stop\n",
        );
      }
    });
}

async function stop(pool: Pool, ids: readonly number[]): Promise<void> {
  const count = await callSchema(() => stopReembedding(pool, ids));
  process.stdout.write(
    count === 0
      ? "no table is being re-embedded\n"
      : "stopped; re-embedded rows stay, and embedd reembed resumes\n",
  );
}

/** @returns the pipelines that workers now re-embed */
async function start(pool: Pool, ids: readonly number[]): Promise<PipelineStatus[]> {
  const pipelines = await readThese(pool, ids);
  for (const { relation, error } of pipelines) {
    if (error === null) continue;
    process.stderr.write(
      `${relation} is not served: ${error}\n  try: embedd doctor  # other dimensions need embedd switch-model\n`,
    );
    process.exitCode = EXIT.no;
  }
  const stale = pipelines.filter((p) => p.error === null && countStale([p]) > 0);
  if (stale.length === 0) {
    const unknown = pipelines.filter((p) => p.currentModel === null && (p.done ?? 0) > 0);
    for (const { relation } of unknown) {
      process.stderr.write(`the current model of ${relation} is not known until a worker runs: embedd run\n`);
    }
    if (unknown.length > 0) process.exitCode = EXIT.no;
    else process.stdout.write("every row already uses the current model\n");
    return [];
  }
  for (const pipeline of stale) process.stdout.write(describe(pipeline));
  const started = stale.map((p) => p.pipeline);
  await callSchema(() => startReembedding(pool, started));
  if ((await countWorkers(pool)).live === 0) {
    process.stderr.write("no worker is connected; re-embedding starts with the next one: embedd run\n");
    process.exitCode = EXIT.no;
    return [];
  }
  return stale.filter((p) => !p.paused);
}

/** Shows progress until the workers are done; Ctrl-C ends only this display. */
async function follow(pool: Pool, ids: readonly number[], total: number): Promise<void> {
  const progress = watchedProgress("re-embedding", total);
  let left = total;
  let countAt = 0;
  stopSignal.addEventListener("abort", () => {
    progress.stop();
  });
  for (;;) {
    const over = (await reembedding(pool, ids)).length === 0;
    if (over || performance.now() >= countAt) {
      const began = performance.now();
      left = countStale(await readThese(pool, ids));
      progress.left(left);
      // Counting reads whole tables, so it gets at most a twentieth of the time.
      countAt = performance.now() + Math.max(1_000, 20 * (performance.now() - began));
    }
    if (over) break;
    await sleep(200);
  }
  progress.stop();
  const done = counted(Math.max(total - left, 0), "row");
  process.stdout.write(`${done} re-embedded in ${(progress.ms() / 1000).toFixed(1)} s\n`);
  if (left > 0) {
    process.stderr.write(`stale rows left: ${left}; see embedd failures\n`);
    process.exitCode = EXIT.no;
  }
}

async function readThese(pool: Pool, ids: readonly number[]): Promise<PipelineStatus[]> {
  return (await readStatus(pool)).filter((p) => ids.includes(p.pipeline));
}

const countStale = (pipelines: readonly PipelineStatus[]): number =>
  pipelines.reduce((sum, p) => sum + (p.stale ?? 0), 0);

/** Says which vectors will be replaced. */
function describe({ relation, embedding, doneByModel, currentModel, paused }: PipelineStatus): string {
  const old = Object.entries(doneByModel ?? {}).filter(([model]) => model !== currentModel);
  const rows = old.map(
    ([model, count]) => `${counted(count, "row")} from ${model === "" ? "an unnamed model" : model}`,
  );
  return (
    `${relation}.${embedding}: re-embedding ${rows.join(", ")} with ${currentModel ?? "the current model"}` +
    `${paused ? `; paused, start it with: embedd resume ${shellWord(relation)}` : ""}\n`
  );
}
