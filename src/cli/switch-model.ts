import { Option } from "commander";
import type { Command } from "commander";
import { EmbeddError, configurationError } from "../errors.js";
import { createProvider } from "../providers/create-provider.js";
import { knownDimensions } from "../providers/known-dimensions.js";
import { withOwnerClient } from "../database/pool.js";
import { switchIndexes } from "../admin/switch-model/indexes.sql.js";
import { abortSwitch } from "../admin/switch-model/abort.js";
import { switchModel } from "../admin/switch-model/switch-model.js";
import type { SwitchResult } from "../admin/switch-model/switch-model.js";
import { countBehind, countTexts, readSwitches } from "../admin/switch-model/switches.sql.js";
import { wholeNumberOrZero, wholeNumber } from "./arguments.js";
import { withContext } from "./context.js";
import type { Context } from "./context.js";
import { EXIT } from "./exit.js";
import { switchReporter } from "./switch-progress.js";

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
    .description("move a table to another model or dimension without an outage; run it again to go on")
    .option("--embedding <column>", "the embedding column", "embedding")
    .option("--model <name>", "the new model (default: that of EMBEDD_PROVIDER)")
    .option("--dimensions <n>", "of its vectors (default: the model's own)", wholeNumber)
    .addOption(
      new Option("--index <method>", "the new column's own index (default: as the old one's)").choices([
        "hnsw",
        "none",
      ]),
    )
    .option("--drop-old", "the old vectors go in the swap (default: kept as <column>_previous)")
    .option("--max-behind <n>", "swap while at most this many rows lack a new vector", wholeNumberOrZero, 100)
    .option("--force", "swap although rows could not be embedded with the new model")
    .option("--status", "only say how far it is; of all tables without one")
    .option("--json", "with --status, for scripts")
    .option("--abort", "end it: what it added goes, and the old model stays")
    .addHelpText(
      "after",
      `
The new model's vectors are made by a worker of that model, which is to run beside the old one's:
  EMBEDD_PROVIDER=… embedd run

Example:
  embedd switch-model docs --model text-embedding-3-small --dimensions 1536`,
    )
    .action(async (table: string | undefined, flags: SwitchFlags, command: Command) => {
      await withContext(
        command,
        async (context) => {
          if (flags.status === true) await showStatus(context, table, flags);
          else if (table === undefined)
            throw configurationError("no_table", "which table?", "embedd switch-model docs");
          else if (flags.abort === true) await abort(context, table, flags);
          else await run(context, table, flags);
        },
        { quiet: flags.status === true },
      );
    });
}

async function run(context: Context, table: string, flags: SwitchFlags): Promise<void> {
  const target = await findTarget(context, table, flags);
  const stopping = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.once(name, () => {
      // A second signal forces.
      process.once(name, () => process.exit(EXIT.fault));
      stopping.abort();
      process.stderr.write("stopping when the present step is done; once more to stop at once\n");
    });
  }
  const reporter = switchReporter();
  try {
    const result = await withOwnerClient(context.databaseUrl, (client) =>
      switchModel(
        client,
        { ...flags, ...target, relation: table, signal: stopping.signal },
        reporter.onEvent,
      ),
    );
    reporter.stop();
    process.stdout.write(formatResult(result));
  } catch (error) {
    reporter.stop();
    if (stopping.signal.aborted) {
      process.stderr.write(
        "stopped; both models go on. The same command goes on from here, --abort ends it\n",
      );
      process.exitCode = EXIT.fault;
    } else if (error instanceof EmbeddError && error.code === "same_model") {
      // As after a crash right behind the swap.
      process.stdout.write(`nothing to switch: ${error.message}\n`);
    } else if (error instanceof EmbeddError && error.code === "dead_rows") {
      process.stderr.write(`embedd: ${error.message}\n  try: ${error.hint ?? ""}\n`);
      process.exitCode = EXIT.no;
    } else throw error;
  }
}

/** What was not said comes from the provider; a switch that is under way knows. */
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
        `it is not known how many dimensions ${model} has`,
        `--dimensions …, or set EMBEDD_PROVIDER for ${model}`,
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
  await withOwnerClient(databaseUrl, async (client) => {
    const { relation, fromModel } = await abortSwitch(client, { relation: table, embedding });
    process.stdout.write(`${relation} stays with ${fromModel}\n`);
  });
}

function formatResult({ running, lockedMs, previous }: SwitchResult): string {
  const { relation, embedding, fromModel, toModel, toDimensions } = running;
  const lines = [
    `${relation}.${embedding} is of ${toModel} now, ${toDimensions} dimensions; locked for ${lockedMs.toFixed(0)} ms`,
    `queries are to be embedded with ${toModel}: select * from embedd.model_of('${relation}')`,
  ];
  if (previous !== null) {
    lines.push(
      `the vectors of ${fromModel} are kept: ALTER TABLE ${relation} ${previous.map((name) => `DROP COLUMN ${name}`).join(", ")};`,
    );
  }
  if (running.oldServed) lines.push(`the worker of ${fromModel} is not needed here any more: stop it`);
  return `${lines.join("\n")}\n`;
}

async function showStatus({ pool }: Context, table: string | undefined, flags: SwitchFlags): Promise<void> {
  const switches = await readSwitches(pool, { relation: table });
  const broken = switches.filter(({ whole }) => !whole);
  const states = await Promise.all(
    switches
      .filter(({ whole }) => whole)
      .map(async (running) => {
        const counts = await countBehind(pool, running.shadow);
        const texts = await countTexts(pool, running.shadow);
        const indexes = await switchIndexes(pool, running);
        const filled = counts.behind - counts.dead <= flags.maxBehind;
        return {
          ...running,
          step: !filled ? "fill" : indexes.some(({ state }) => state !== "ready") ? "index" : "swap",
          done: texts - counts.pending,
          left: counts.pending,
          behind: counts.behind,
          dead: counts.dead,
          indexes: indexes.map(({ name, replaces, state }) => ({ name, replaces, state })),
        };
      }),
  );
  if (flags.json === true) {
    process.stdout.write(`${JSON.stringify([...states, ...broken], null, 2)}\n`);
    return;
  }
  if (switches.length === 0) process.stdout.write("nothing is being switched\n");
  for (const { relation, embedding } of broken) {
    process.stdout.write(
      `${relation}.${embedding}: a column that the switch needs is gone; embedd switch-model ${relation} --abort\n`,
    );
  }
  for (const s of states) {
    process.stdout.write(
      `${s.relation}.${s.embedding}: from ${s.fromModel} (${s.fromDimensions}) to ${s.toModel} (${s.toDimensions})\n` +
        `  step      ${s.step}\n` +
        `  rows      ${s.done} done, ${s.left} left, ${s.dead} dead\n` +
        `  worker    ${s.served ? "connected" : `none of ${s.toModel} is connected`}${s.error === null ? "" : `; ${s.error}`}\n` +
        s.indexes.map(({ name, state }) => `  index     ${name}: ${state}\n`).join(""),
    );
  }
}
