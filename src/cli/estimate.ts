import type { Command } from "commander";
import { createProvider } from "../providers/create-provider.js";
import { loadPipelines } from "../sql/load-pipelines.js";
import { readStatus } from "../sql/status.js";
import { estimateBacklog } from "../worker/estimate.js";
import type { Estimate } from "../worker/estimate.js";
import { createUsage } from "../worker/usage.js";
import { wholeNumber, wholeNumberOrZero } from "./arguments.js";
import { withContext } from "./context.js";
import { matchesTable } from "./text.js";

interface EstimateFlags {
  table?: string;
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
    .option("--sample <n>", "rows to count the tokens of", wholeNumber, 500)
    .option(
      "--trial <n>",
      "rows to embed for the time, which an API charges; 0: no time",
      wholeNumberOrZero,
      64,
    )
    .option("--json", "for scripts")
    .addHelpText("after", "\nExample:\n  EMBEDD_PROVIDER=openai embedd estimate --table docs")
    .action(async (flags: EstimateFlags, command: Command) => {
      await withContext(
        command,
        async ({ pool, config, log }) => {
          const provider = await createProvider({ ...config, log });
          const limits = { tokens: config.maxTokensPerDay ?? null, usd: config.maxUsdPerDay ?? null };
          const usage = createUsage(pool, provider, limits, log);
          const estimates: TableEstimate[] = [];
          try {
            const waiting = new Map((await readStatus(pool)).map((s) => [s.pipeline, s.pending ?? 0]));
            for (const pipeline of (await loadPipelines(pool)).pipelines) {
              const rows = waiting.get(pipeline.id) ?? 0;
              if (rows === 0 || !matchesTable(pipeline.relation, flags.table)) continue;
              if (pipeline.model !== null && pipeline.model !== provider.model) continue;
              const estimate = await estimateBacklog(pool, pipeline, provider, {
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
