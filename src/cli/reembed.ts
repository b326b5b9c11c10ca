import type { Command } from "commander";
import type { Pool } from "pg";
import { callSchema } from "../database/call-schema.js";
import {
  countDeadWithVector,
  emptyCache,
  pipelinesOf,
  reembedding,
  startReembedding,
  startRefresh,
  stopReembedding,
} from "../admin/request-reembed.sql.js";
import { shellWord } from "../shell-word.js";
import { countWorkers, readStatus } from "../admin/status.sql.js";
import type { PipelineStatus } from "../admin/status.sql.js";
import { sleep } from "../sleep.js";
import { withContext } from "./context.js";
import type { Context } from "./context.js";
import { configurationError } from "../errors.js";
import { EXIT } from "./exit.js";
import { watchedProgress } from "./progress.js";
import { Interrupted, stopSignal } from "./signals.js";
import { nothingWatched } from "../admin/pick-pipeline.js";
import { counted, problemLines } from "./text.js";
import { print, printError } from "./print.js";
import { visibleInLine } from "../visible.js";

interface ReembedFlags {
  table?: string;
  wait: boolean;
  stop?: boolean;
  all?: boolean;
  emptyCache?: boolean;
}

/** What is re-embedded. `total` and `left` count rows of a pipeline. */
interface Task {
  request: (pool: Pool, ids: readonly number[]) => Promise<void>;
  describe: (pipeline: PipelineStatus) => string;
  /** Before the request. */
  total: (pipeline: PipelineStatus) => number;
  /** While workers re-embed. */
  left: (pipeline: PipelineStatus) => number;
  /** Afterwards: the rows of these pipelines that could not be re-embedded and keep their old vectors. */
  failed: (pool: Pool, ids: readonly number[]) => Promise<number>;
  /** What to print if no row needs re-embedding. */
  nothing: string;
}

export function addReembed(program: Command): void {
  program
    .command("reembed")
    .description("re-embed stale rows with the current model, after all pending rows")
    .option("--table <name>", "only this table (default: all)")
    .option("--all", "re-embed every row that has a vector; equal vectors are not written")
    .option(
      "--empty-cache",
      "with --all, compute every text: first empty the vector cache of the current models",
    )
    .option("--no-wait", "return at once; the workers re-embed in the background")
    .option("--stop", "stop re-embedding; the remaining rows keep their old vectors")
    .addHelpText("after", "\nExample:\n  embedd reembed --table docs\n  embedd reembed --all --empty-cache")
    .action(async (flags: ReembedFlags, command: Command) => {
      if (flags.emptyCache === true && flags.all !== true)
        throw configurationError(
          "settings",
          "--empty-cache needs --all",
          "embedd reembed --all --empty-cache",
        );
      const task = flags.all === true ? everyRow(flags.emptyCache === true) : staleRows;
      let followed: PipelineStatus[] = [];
      try {
        await withContext(command, async (context) => {
          const { pool } = context;
          const ids = await callSchema(() => pipelinesOf(pool, flags.table));
          if (ids.length === 0) throw nothingWatched();
          if (flags.stop === true) {
            await stop(pool, ids);
            return;
          }
          const started = await start(context, ids, task);
          if (!flags.wait || started.length === 0) return;
          followed = started;
          await follow(pool, followed, task);
        });
      } catch (error) {
        if (!(error instanceof Interrupted) || followed.length === 0) throw error;
        printError("the workers continue; see embedd status, or stop them with: embedd reembed --stop\n");
      }
    });
}

async function stop(pool: Pool, ids: readonly number[]): Promise<void> {
  const stopped = await callSchema(() => stopReembedding(pool, ids));
  if (stopped.length === 0) print("no table is being re-embedded\n");
  for (const { relation, refreshing } of stopped) {
    print(
      refreshing
        ? `stopped; ${relation} has a gap: some rows keep vectors that may not belong to their texts; ` +
            "start over with: embedd reembed --all\n"
        : "stopped; re-embedded rows stay, and embedd reembed resumes\n",
    );
  }
}

/** @returns the pipelines that workers now re-embed */
async function start(
  { pool, hintFor }: Context,
  ids: readonly number[],
  task: Task,
): Promise<PipelineStatus[]> {
  const pipelines = await readStatus(pool, ids);
  for (const pipeline of pipelines) {
    const { relation, error } = pipeline;
    if (error === null || isServed(pipeline)) continue;
    const why = problemLines(error, "  ", hintFor);
    const more = why.includes("\n") ? "" : `\n  try: ${hintFor("embedd doctor")}`;
    printError(`${visibleInLine(relation)} is not served: ${why}${more}\n`);
    process.exitCode = EXIT.no;
  }
  const chosen = pipelines.filter((p) => isServed(p) && task.total(p) > 0);
  if (chosen.length === 0) {
    const unknown = pipelines.filter((p) => p.currentModel === null && (p.done ?? 0) > 0);
    for (const { relation } of unknown) {
      printError(
        `the current model of ${visibleInLine(relation)} is not known until a worker runs: embedd run\n`,
      );
    }
    if (unknown.length > 0) process.exitCode = EXIT.no;
    else if (pipelines.every(isServed)) print(`${task.nothing}\n`);
    return [];
  }
  for (const pipeline of chosen) print(task.describe(pipeline));
  const started = chosen.map((p) => p.pipeline);
  await callSchema(() => task.request(pool, started));
  if ((await countWorkers(pool))?.live === 0) {
    printError("no worker is connected; re-embedding starts with the next one: embedd run\n");
    process.exitCode = EXIT.no;
    return [];
  }
  return chosen.filter((p) => !p.paused);
}

/** Shows progress until the workers are done; Ctrl-C ends only this display. */
async function follow(pool: Pool, pipelines: readonly PipelineStatus[], task: Task): Promise<void> {
  const ids = pipelines.map((p) => p.pipeline);
  const total = pipelines.reduce((sum, p) => sum + task.total(p), 0);
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
      left = over ? await task.failed(pool, ids) : await sumOf(pool, ids, task.left);
      progress.left(left);
      // Counting reads whole tables, so it gets at most a twentieth of the time.
      countAt = performance.now() + Math.max(1_000, 20 * (performance.now() - began));
    }
    if (over) break;
    await sleep(200);
  }
  progress.stop();
  const done = counted(Math.max(total - left, 0), "row");
  print(`${done} re-embedded in ${(progress.ms() / 1000).toFixed(1)} s\n`);
  if (left > 0) {
    printError(`rows left with an old vector: ${left}; see embedd failures\n`);
    process.exitCode = EXIT.no;
  }
}

async function sumOf(
  pool: Pool,
  ids: readonly number[],
  count: (pipeline: PipelineStatus) => number,
): Promise<number> {
  return (await readStatus(pool, ids)).reduce((sum, p) => sum + count(p), 0);
}

/** Workers also serve a pipeline with a gap, although it is an error until it is resolved. */
const isServed = ({ error, gap }: PipelineStatus): boolean =>
  error === null || (gap !== null && error.includes(gap));

const pausedHint = ({ relation, paused }: PipelineStatus): string =>
  paused ? `; paused, start it with: embedd resume ${shellWord(relation)}` : "";

const staleRows: Task = {
  request: startReembedding,
  total: (p) => p.stale ?? 0,
  left: (p) => p.stale ?? 0,
  failed: (pool, ids) => sumOf(pool, ids, (p) => p.stale ?? 0),
  nothing: "every row already uses the current model",
  describe(p) {
    const { relation, embedding, doneByModel, currentModel } = p;
    const old = Object.entries(doneByModel ?? {}).filter(([model]) => model !== currentModel);
    const rows = old.map(
      ([model, count]) => `${counted(count, "row")} from ${model === "" ? "an unnamed model" : model}`,
    );
    return `${visibleInLine(relation)}.${embedding}: re-embedding ${rows.join(", ")} with ${currentModel ?? "the current model"}${pausedHint(p)}\n`;
  },
};

const everyRow = (cacheToo: boolean): Task => ({
  async request(pool, ids) {
    if (cacheToo) await emptyCache(pool, ids);
    await startRefresh(pool, ids);
  },
  total: (p) => p.done ?? 0,
  left: (p) => p.refreshLeft ?? 0,
  failed: countDeadWithVector,
  nothing: "no row has a vector",
  describe(p) {
    const rows = counted(p.done ?? 0, "row");
    return `${p.relation}.${p.embedding}: re-embedding all of ${rows} with ${p.currentModel ?? "the current model"}${pausedHint(p)}\n`;
  },
});
