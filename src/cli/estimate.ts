import type { Command } from "commander";
import type { Pool } from "pg";
import { configurationError } from "../errors.js";
import { createProvider } from "../providers/create-provider.js";
import { loadPipelines } from "../database/load-pipelines.sql.js";
import type { Pipeline } from "../database/pipeline.js";
import { readStatus } from "../admin/status.sql.js";
import { estimateBacklog } from "../admin/estimate.js";
import type { Estimate } from "../admin/estimate.js";
import { createUsage } from "../worker/embed/usage.js";
import { wholeNumber, wholeNumberOrZero } from "./arguments.js";
import { withContext } from "./context.js";
import { matchesTable } from "./text.js";

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
    .description("tokens, time and price of the backlog, before it is run")
    .option("--table <name>", "only this table")
    .option("--stale", "rows with vectors of other models, as reembed or switch-model would make them again")
    .option("--sample <n>", "rows to count the tokens of", wholeNumber, 500)
    .option(
      "--trial <n>",
      "rows to embed for the time, which an API charges; 0: no time",
      wholeNumberOrZero,
      64,
    )
    .option("--json", "for scripts")
    .addHelpText(
      "after",
      "\nExample:\n  EMBEDD_PROVIDER=openai embedd estimate --table docs\n  embedd estimate --stale",
    )
    .action(async (flags: EstimateFlags, command: Command) => {
      await withContext(
        command,
        async ({ pool, config, log }) => {
          const provider = await createProvider({ ...config, log });
          const limits = { tokens: config.maxTokensPerDay ?? null, usd: config.maxUsdPerDay ?? null };
          const usage = createUsage(pool, provider, limits, log);
          const estimates: TableEstimate[] = [];
          try {
            for (const { pipeline, rows } of await backlog(pool, provider.model, flags)) {
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
          process.stdout.write(
            flags.json === true ? `${JSON.stringify(estimates, null, 2)}\n` : formatEstimates(estimates),
          );
        },
        { quiet: true },
      );
    });
}

/** The pipelines with rows for a model; says which rows wait for another one. */
async function backlog(
  pool: Pool,
  model: string,
  { table, stale = false }: EstimateFlags,
): Promise<{ pipeline: Pipeline; rows: number }[]> {
  const status = new Map((await readStatus(pool)).map((s) => [s.pipeline, s]));
  const { pipelines } = await loadPipelines(pool);
  const named = pipelines.filter((p) => matchesTable(p.relation, table));
  if (named.length === 0 && table !== undefined) {
    throw configurationError("not_watched", `${table} is not watched`, `embedd watch ${table} --content …`);
  }
  return named.flatMap((pipeline) => {
    const { pending, doneByModel } = status.get(pipeline.id) ?? {};
    const others = Object.entries(doneByModel ?? {}).filter(([name]) => name !== model);
    const rows = stale ? others.reduce((sum, [, count]) => sum + count, 0) : (pending ?? 0);
    if (rows === 0) return [];
    if (!stale && pipeline.model !== null && pipeline.model !== model) {
      process.stderr.write(`${rows} rows of ${pipeline.relation} wait for ${pipeline.model}\n`);
      return [];
    }
    return [{ pipeline, rows }];
  });
}

function formatEstimates(estimates: readonly TableEstimate[]): string {
  if (estimates.length === 0) return "nothing waits\n";
  return estimates
    .map(
      (e) =>
        `${e.relation}.${e.embedding}  ${e.rows} rows by ${e.model}\n` +
        `  tokens  ${e.tokens}${e.tokensMargin > 0 ? ` ± ${e.tokensMargin}` : ""} (of ${e.sampledRows} rows counted)\n` +
        `  time    ${e.seconds === null ? "not tried" : `about ${duration(e.seconds)} by one worker like this one`}\n` +
        `  price   ${e.usd === null ? "not known: EMBEDD_USD_PER_MILLION_TOKENS" : e.usd === 0 ? "nothing" : `about $${e.usd.toFixed(e.usd < 1 ? 4 : 2)} by the list price`}\n`,
    )
    .join("");
}

function duration(seconds: number): string {
  if (seconds < 100) return `${Math.ceil(seconds)} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}
