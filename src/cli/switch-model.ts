import { Option } from "commander";
import type { Command } from "commander";
import type { Pool } from "pg";
import { EmbeddError, configurationError } from "../errors.js";
import { createProvider } from "../providers/create-provider.js";
import { knownDimensions } from "../providers/known-dimensions.js";
import { refusePooler } from "../database/inspect-connection.js";
import { withOwnerClient } from "../database/pool.js";
import { abortSwitch } from "../admin/switch-model/abort.js";
import { shellWord } from "../shell-word.js";
import { switchCommand } from "../admin/switch-model/errors.js";
import { SWITCH_DEFAULTS } from "../admin/switch-model/switch.js";
import type { SwitchResult } from "../admin/switch-model/switch.js";
import { pipelinesNamed } from "../admin/watched.sql.js";
import { callSchema } from "../database/call-schema.js";
import { switchModel } from "../admin/switch-model/switch-model.js";
import { readSwitches } from "../admin/switch-model/switches.sql.js";
import { wholeNumberOrZero, wholeNumber } from "./arguments.js";
import { withContext } from "./context.js";
import type { Context } from "./context.js";
import { EXIT } from "./exit.js";
import { stopSignal, unlessStopped } from "./signals.js";
import { switchReporter } from "./switch-progress.js";
import { formatSwitches, readProgress } from "./switch-status.js";
import { printResult } from "./text.js";
import { print, printError } from "./print.js";
import { visibleInLine } from "../visible.js";

interface SwitchFlags {
  embedding: string;
  model?: string;
  dimensions?: number;
  index?: "hnsw" | "none";
  dropOld?: boolean;
  maxBehind: number;
  force?: boolean;
  status?: boolean;
  json?: boolean;
  abort?: boolean;
}

export function addSwitchModel(program: Command): void {
  program
    .command("switch-model [table]")
    .description(
      "move a table to another model or dimension while applications keep running; run it again to resume",
    )
    .option("--embedding <column>", "the embedding column", "embedding")
    .option("--model <name>", "the new model (default: that of EMBEDD_PROVIDER)")
    .option("--dimensions <n>", "dimensions of the new vectors (default: the model's own)", wholeNumber)
    .addOption(
      new Option("--index <method>", "the new column's own index (default: the old column's)").choices([
        "hnsw",
        "none",
      ]),
    )
    .option("--drop-old", "drop the old vectors in the swap (default: keep them as <column>_previous)")
    .option(
      "--max-behind <n>",
      "swap once at most this many rows lack a new vector, if a worker of the new model is connected",
      wholeNumberOrZero,
      SWITCH_DEFAULTS.maxBehind,
    )
    .option("--force", "swap even if rows could not be embedded with the new model")
    .option("--status", "show progress only; all tables if none is named")
    .option("--json", "with --status: print JSON")
    .option("--abort", "undo the switch: drop the new columns and keep the old model")
    .addHelpText(
      "after",
      `
A worker of the new model fills the new columns. Start it alongside the old worker:
  EMBEDD_PROVIDER=openai embedd run

Example:
  embedd switch-model docs --model text-embedding-3-small --dimensions 1536`,
    )
    .action(async (table: string | undefined, flags: SwitchFlags, command: Command) => {
      await withContext(
        command,
        async (context) => {
          if (flags.status === true) await unlessStopped(showStatus(context.pool, table, flags));
          else if (table === undefined)
            throw configurationError("no_table", "name the table to switch", "embedd switch-model docs");
          else if (flags.abort === true) await unlessStopped(abort(context, table, flags));
          else await run(context, table, flags);
        },
        { stopsItself: true },
      );
    });
}

async function run(context: Context, table: string, flags: SwitchFlags): Promise<void> {
  const target = await unlessStopped(findTarget(context, table, flags));
  const reporter = switchReporter();
  try {
    // Not abandoned at a signal: only the server knows whether a swap that is under way was committed.
    const result = await withOwnerClient(
      context.databaseUrl,
      async (client) => {
        await refusePooler(client, context.databaseUrl);
        const options = { ...flags, ...target, relation: table, signal: stopSignal };
        return switchModel(client, options, reporter.onEvent);
      },
      stopSignal,
    );
    reporter.stop();
    print(formatResult(result));
  } catch (error) {
    reporter.stop();
    if (stopSignal.aborted) {
      printError("stopped; run the same command to resume, or add --abort to undo\n");
      process.exitCode = EXIT.fault;
    } else if (error instanceof EmbeddError && error.code === "same_model") {
      // For example when the command was killed right after the swap, and is run again.
      print(`nothing to switch: ${visibleInLine(error.message)}\n`);
    } else if (error instanceof EmbeddError && error.code === "dead_rows") {
      printError(`embedd: ${visibleInLine(error.message)}\n  try: ${error.hint ?? ""}\n`);
      process.exitCode = EXIT.no;
    } else throw error;
  }
}

/** Completes the target: a running switch knows its own; otherwise the provider tells its model and dimensions. */
async function findTarget(
  { pool, config }: Context,
  table: string,
  { embedding, model, dimensions }: SwitchFlags,
): Promise<{ model?: string | undefined; dimensions?: number | undefined }> {
  const [running] = await readSwitches(pool, { relation: table, embedding });
  if (running !== undefined) return { model, dimensions };
  const known = model === undefined ? undefined : (dimensions ?? knownDimensions(model));
  if (known !== undefined) return { model, dimensions: known };
  const provider = await createProvider(config);
  try {
    if (model !== undefined && model !== provider.model) {
      throw configurationError(
        "no_dimensions",
        `the dimensions of ${model} are not known; pass --dimensions, or set EMBEDD_PROVIDER for this model`,
        switchCommand({ relation: table, embedding }, "--model", shellWord(model), "--dimensions", "1536"),
      );
    }
    return { model: provider.model, dimensions: dimensions ?? provider.dimensions };
  } finally {
    await provider.close();
  }
}

async function abort(
  { databaseUrl }: Context,
  table: string,
  { embedding }: { embedding: string },
): Promise<void> {
  await withOwnerClient(
    databaseUrl,
    async (client) => {
      await refusePooler(client, databaseUrl);
      const { relation, fromModel } = await abortSwitch(client, { relation: table, embedding });
      print(`${visibleInLine(relation)} stays with ${visibleInLine(fromModel ?? "")}\n`);
    },
    stopSignal,
  );
}

function formatResult({ running, lockedMs, previous }: SwitchResult): string {
  const { relation, embedding, fromModel, toModel, toDimensions } = running;
  const lines = [
    `${relation}.${embedding} now uses ${toModel} (${toDimensions} dimensions)`,
    `the swap locked the table for ${lockedMs.toFixed(0)} ms`,
    `embed queries with ${toModel}; to ask for the current model: SELECT * FROM embedd.model_of(${literal(relation)});`,
  ];
  if (previous !== null) {
    const columns = previous.map((name) => `DROP COLUMN ${name}`).join(", ");
    lines.push(`the vectors from ${fromModel} are kept; to drop them: ALTER TABLE ${relation} ${columns};`);
  }
  if (running.oldServed) lines.push(`the worker of ${fromModel} is no longer needed for this table`);
  return `${lines.join("\n")}\n`;
}

const literal = (name: string): string => `'${name.replaceAll("'", "''")}'`;

async function showStatus(
  pool: Pool,
  table: string | undefined,
  { maxBehind, json }: SwitchFlags,
): Promise<void> {
  const switches = await readSwitches(pool, { relation: table });
  if (table !== undefined && switches.length === 0) await callSchema(() => pipelinesNamed(pool, table));
  const progress = await Promise.all(switches.map((running) => readProgress(pool, running, maxBehind)));
  printResult(progress, json, formatSwitches);
}
