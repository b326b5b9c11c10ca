import { Option } from "commander";
import type { Command } from "commander";
import type { Client } from "pg";
import { findDefinition } from "../admin/redefine.sql.js";
import { shellWord } from "../shell-word.js";
import { findMisfit } from "../admin/column-misfit.js";
import { watchCommand } from "../admin/watch-command.js";
import { readVectorType } from "../admin/watch.sql.js";
import { DEFAULT_DIMENSIONS } from "../providers/known-dimensions.js";
import { shapeOf } from "../providers/model-shape.js";
import { unwatch, unwatchPipeline, watch } from "../admin/watch.js";
import type { WatchOptions } from "../admin/watch.js";
import { callSchema } from "../database/call-schema.js";
import { EmbeddError, configurationError } from "../errors.js";
import { columnNames, wholeNumber } from "./arguments.js";
import { configuredShape } from "./configured-shape.js";
import { withOwnerClient } from "../database/pool.js";
import { reportingWaits } from "./build-waits.js";
import type { Context } from "./context.js";
import { withContext, withOwner } from "./context.js";
import { stopSignal } from "./signals.js";
import { counted } from "./text.js";
import { print, printError } from "./print.js";
import { visibleInLine } from "../visible.js";

interface WatchFlags {
  content?: string[];
  embedding: string;
  model?: string;
  modelColumn?: string;
  template?: string;
  createColumns?: boolean;
  dimensions?: number;
  index?: "hnsw";
  existing?: "keep" | "refresh";
}

interface UnwatchFlags {
  embedding?: string;
  pipeline?: number;
  dropColumns?: boolean;
}

export function addWatch(program: Command): void {
  program
    .command("watch <table>")
    // --content takes several columns, so the table has to come before it.
    .usage("<table> [options]")
    .description("embed a table's rows, existing and new, or change what their texts are made of")
    .option(
      "--content <column...>",
      "the columns that hold the text, in order; may be left out to change the template of a watched column",
      columnNames,
    )
    .option("--embedding <column>", "the vector(n) or halfvec(n) column", "embedding")
    .option(
      "--model-column <column>",
      "the column for the model's name (default: the embedding column's name plus _model)",
    )
    .option(
      "--template <text>",
      "how to join the columns into one text, such as '{title}\\n\\n{body}' (default: one per line)",
    )
    .option("--model <name>", "only workers of this model may embed it (default: any)")
    .option("--create-columns", "add the embedding and model columns if they are missing")
    .option(
      "--dimensions <n>",
      "dimensions of the column that --create-columns adds (default: 384, or the model's own if it cannot make 384)",
      wholeNumber,
    )
    .addOption(
      new Option(
        "--index <method>",
        "vector index, which a worker builds CONCURRENTLY once no rows are pending (default: none)",
      ).choices(["hnsw"]),
    )
    .addOption(
      new Option(
        "--existing <choice>",
        "required where vectors exist: keep trusts them, refresh re-embeds their rows in the background",
      ).choices(["keep", "refresh"]),
    )
    .addHelpText(
      "after",
      "\nExample:\n  embedd watch docs --content title body --template '{title}\\n\\n{body}' --create-columns --index hnsw\n  embedd watch docs --content title,body --existing refresh",
    )
    .hook("preAction", (command) => {
      const { content, template } = command.opts<WatchFlags>();
      if (content === undefined && template === undefined)
        command.error("error: required option '--content <column...>' not specified");
    })
    .action(async (table: string, flags: WatchFlags, command: Command) => {
      await withContext(command, (context) =>
        withOwnerClient(
          context.databaseUrl,
          (client) => watchTable(client, table, flags, context),
          stopSignal,
        ),
      );
    });
}

async function watchTable(
  client: Client,
  table: string,
  flags: WatchFlags,
  { config, hintFor, pool }: Pick<Context, "config" | "hintFor" | "pool">,
): Promise<void> {
  const { createColumns, dimensions, content, template, ...rest } = flags;
  const before = await callSchema(() =>
    findDefinition(client, { relation: table, embedding: flags.embedding }),
  );
  const shape = flags.model === undefined ? await configuredShape(config) : shapeOf(flags.model);
  const existing = await callSchema(() =>
    readVectorType(client, { relation: table, embedding: flags.embedding }),
  );
  const usual =
    shape?.supportsDimensions(DEFAULT_DIMENSIONS) === false ? shape.dimensions : DEFAULT_DIMENSIONS;
  const options: WatchOptions = {
    ...rest,
    relation: table,
    content: content ?? before?.content ?? [],
    template: template ?? (content === undefined ? (before?.template ?? undefined) : undefined),
    createColumns: createColumns === true ? (dimensions ?? existing?.dimensions ?? usual) : undefined,
  };
  const onWait = (holders: string) => {
    printError(
      `waiting up to 10 s for the lock of ${visibleInLine(table)}, held by ${visibleInLine(holders)}\n`,
    );
  };
  const finish =
    before === null
      ? hintFor(`embedd repair ${shellWord(table)}  # finishes it; or: embedd unwatch ${shellWord(table)}`)
      : "the same command again";
  const id = await reportingWaits({ pool, client, finish }, (onIndex) =>
    watch(client, options, onIndex, onWait),
  ).catch((error: unknown) => {
    if (!(error instanceof EmbeddError) || error.code !== "existing_vectors") throw error;
    throw configurationError(error.code, error.message, bothChoices(options));
  });
  print(
    before === null
      ? `watching ${table} (pipeline ${id})\n`
      : `${table} (pipeline ${id}) is now embedded from ${describe(options)}; before, from ${describe(before)}\n`,
  );
  const misfit = shape === null ? null : await findMisfit(client, options, shape);
  if (misfit !== null) {
    printError(
      `warning: ${visibleInLine(misfit.message)}: no worker with the settings of this shell fills it\n` +
        `  try: set EMBEDD_PROVIDER and EMBEDD_MODEL to the model that your workers use\n` +
        `  or:  ${hintFor(`embedd unwatch ${shellWord(table)} --embedding ${shellWord(options.embedding)} && ${misfit.hint ?? ""}`)}\n`,
    );
  }
  if (flags.existing === "refresh") {
    print("workers re-embed every row that has a vector; old vectors serve meanwhile: embedd status\n");
  }
}

function describe({
  content,
  template,
}: {
  content: string[];
  template?: string | null | undefined;
}): string {
  return `${content.join(", ")}${template === null || template === undefined ? "" : ` by the template '${template}'`}`;
}

function bothChoices(options: WatchOptions): string {
  const line = watchCommand(options);
  return [
    `${line} --existing refresh  # re-embeds their rows in the background`,
    `${line} --existing keep  # trusts the vectors as they are`,
  ].join("\n");
}

export function addUnwatch(program: Command): void {
  program
    .command("unwatch [table]")
    .description("stop watching a table and drop embedd's triggers, indexes and grants; vectors stay")
    .option("--embedding <column>", "only this embedding column (default: all of the table)")
    .option("--pipeline <id>", "only this pipeline, instead of a table", wholeNumber)
    .option("--drop-columns", "also drop the embedding and model columns")
    .addHelpText("after", "\nExample:\n  embedd unwatch docs")
    .action(async (table: string | undefined, { pipeline, ...flags }: UnwatchFlags, command: Command) => {
      if ((table === undefined) === (pipeline === undefined)) {
        throw configurationError("no_table", "name a table, or a pipeline", "embedd unwatch docs");
      }
      await withOwner(command, async (client) => {
        if (pipeline !== undefined) {
          const relation = await unwatchPipeline(client, pipeline, flags);
          print(`no longer watching ${visibleInLine(relation)} (pipeline ${pipeline})\n`);
        } else if (table !== undefined) {
          const count = await unwatch(client, table, flags);
          print(`no longer watching ${visibleInLine(table)} (${counted(count, "pipeline")})\n`);
        }
      });
    });
}
