import type { Command } from "commander";
import { createProvider } from "../providers/create-provider.js";
import { loadPipelines } from "../database/load-pipelines.sql.js";
import type { Pipeline } from "../database/pipeline.js";
import { readStatus } from "../admin/status.sql.js";
import { estimateBacklog } from "../admin/estimate.js";
import type { Estimate } from "../admin/estimate.js";
import { createUsage } from "../worker/embed/usage.js";
import { wholeNumber, wholeNumberOrZero } from "./arguments.js";
import { withContext } from "./context.js";
import type { Context } from "./context.js";
import { CUT_ADVICE, cutShareText } from "./cut-texts.js";
import { EXIT } from "./exit.js";
import { watchedAs } from "../admin/pick-pipeline.js";
import { counted, printResult, problemLines } from "./text.js";
import { printError } from "./print.js";
import { visibleInLine } from "../visible.js";

interface EstimateFlags {
  table?: string;
  stale?: boolean;
  sample: number;
  trial: number;
  json?: boolean;
}

interface TableEstimate extends Estimate {
  relation: string;
  embedding: string;
  model: string;
}

export function addEstimate(program: Command): void {
  program
    .command("estimate")
    .description("estimate tokens, time and price of the backlog before running it")
    .option("--table <name>", "only this table")
    .option("--stale", "estimate stale rows instead: those that reembed or switch-model would re-embed")
    .option("--sample <n>", "count the tokens of this many rows", wholeNumber, 500)
    .option(
      "--trial <n>",
      "embed this many rows to measure the speed, which an API charges for; 0: no time estimate",
      wholeNumberOrZero,
      64,
    )
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nExample:\n  EMBEDD_PROVIDER=openai embedd estimate --table docs\n  embedd estimate --stale",
    )
    .action(async (flags: EstimateFlags, command: Command) => {
      await withContext(command, async ({ pool, config, log, hintFor }) => {
        const provider = await createProvider({ ...config, log });
        const limits = { tokens: config.maxTokensPerDay ?? null, usd: config.maxUsdPerDay ?? null };
        const usage = createUsage(pool, provider, limits, log);
        const estimates: TableEstimate[] = [];
        try {
          for (const { pipeline, rows } of await backlog({ pool, hintFor }, provider.model, flags)) {
            const estimate = await estimateBacklog(pool, pipeline, provider, {
              kind: flags.stale === true ? "stale" : "pending",
              rows,
              maxChars: config.maxChars,
              sampleRows: flags.sample,
              trialRows: provider.supportsDimensions(pipeline.dimensions) ? flags.trial : 0,
              meter: usage.meter(pipeline.id),
            });
            const { relation, embedding } = pipeline;
            estimates.push({ relation, embedding, model: provider.model, ...estimate });
          }
        } finally {
          await usage.stop();
          await provider.close();
        }
        // Rows that could not be looked at have their own line, and may be pending.
        const looked = process.exitCode !== EXIT.no;
        printResult(estimates, flags.json, (found) =>
          found.length === 0 && !looked ? "" : formatEstimates(found, flags.stale === true),
        );
      });
    });
}

/** Lists the pipelines with rows to embed with a model, and mentions those whose rows are for another model. */
async function backlog(
  { pool, hintFor }: Pick<Context, "pool" | "hintFor">,
  model: string,
  { table, stale = false }: EstimateFlags,
): Promise<{ pipeline: Pipeline; rows: number }[]> {
  const { pipelines } = await loadPipelines(pool);
  const ids = table === undefined ? null : await watchedAs(pool, table);
  const named = pipelines.filter(({ id }) => ids === null || ids.includes(id));
  const all = await readStatus(pool, ids);
  const status = new Map(all.map((s) => [s.pipeline, s]));
  for (const { pipeline, relation, pending, error } of all) {
    if (pending !== null && pipelines.some(({ id }) => id === pipeline)) continue;
    const why = error === null ? "its rows cannot be counted" : problemLines(error, "  ", hintFor);
    printError(`not estimated: ${visibleInLine(relation)}: ${why}\n`);
    process.exitCode = EXIT.no;
  }
  return named.flatMap((pipeline) => {
    const { pending, doneByModel } = status.get(pipeline.id) ?? {};
    const others = Object.entries(doneByModel ?? {}).filter(([name]) => name !== model);
    const rows = stale ? others.reduce((sum, [, count]) => sum + count, 0) : (pending ?? 0);
    if (rows === 0) return [];
    if (!stale && pipeline.model !== null && pipeline.model !== model) {
      printError(
        `not estimated: ${counted(rows, "pending row")} of ${pipeline.relation}, which only ${pipeline.model} may embed\n`,
      );
      process.exitCode = EXIT.no;
      return [];
    }
    return [{ pipeline, rows }];
  });
}

function formatEstimates(estimates: readonly TableEstimate[], stale: boolean): string {
  if (estimates.length === 0) return stale ? "no stale rows\n" : "no pending rows\n";
  return estimates
    .map((e) => {
      const margin = e.tokensMargin > 0 ? ` ± ${e.tokensMargin}` : "";
      const time =
        e.seconds === null ? "not measured" : `about ${duration(e.seconds)} with one worker on this machine`;
      return (
        `${e.relation}.${e.embedding}  ${counted(e.rows, "row")} with ${e.model}\n` +
        `  tokens  ${e.tokens}${margin} (from ${counted(e.sampledRows, "sampled row")})\n` +
        cutLine(e) +
        `  time    ${time}\n` +
        `  price   ${price(e.usd)}\n`
      );
    })
    .join("");
}

function cutLine({ sampledCut, sampledRows }: TableEstimate): string {
  if (sampledCut === 0) return "";
  return `  cut     ${cutShareText(sampledCut, sampledRows)} of the sampled rows, at the model's limit; ${CUT_ADVICE}\n`;
}

function price(usd: number | null): string {
  if (usd === null) return "unknown; set EMBEDD_USD_PER_MILLION_TOKENS";
  return usd === 0 ? "free" : `about $${usd.toFixed(usd < 1 ? 4 : 2)} at the list price`;
}

function duration(seconds: number): string {
  if (seconds < 100) return `${Math.ceil(seconds)} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}
