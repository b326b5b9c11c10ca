import { Option } from "commander";
import type { Command } from "commander";
import { unwatch, unwatchPipeline, watch } from "../admin/watch.js";
import { configurationError } from "../errors.js";
import { wholeNumber } from "./arguments.js";
import { withOwner } from "./context.js";
import { counted } from "./text.js";

interface WatchFlags {
  content: string[];
  embedding: string;
  model?: string;
  modelColumn?: string;
  template?: string;
  createColumns?: boolean;
  dimensions: number;
  index?: "hnsw";
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
    .description("embed a table's rows, existing and new")
    .requiredOption("--content <column...>", "the columns that hold the text, in order")
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
    .option("--dimensions <n>", "dimensions of the column that --create-columns adds", wholeNumber, 384)
    .addOption(
      new Option(
        "--index <method>",
        "vector index, which a worker builds CONCURRENTLY once no rows are pending (default: none)",
      ).choices(["hnsw"]),
    )
    .addHelpText(
      "after",
      "\nExample:\n  embedd watch docs --content title body --template '{title}\\n\\n{body}' --create-columns --index hnsw",
    )
    .action(async (table: string, flags: WatchFlags, command: Command) => {
      const { createColumns, dimensions, ...rest } = flags;
      const options = {
        ...rest,
        relation: table,
        createColumns: createColumns === true ? dimensions : undefined,
      };
      await withOwner(command, async (client) => {
        const id = await watch(client, options, () => {
          process.stderr.write("building the index of pending rows; writers are not blocked\n");
        });
        process.stdout.write(`watching ${table} (pipeline ${id})\n`);
      });
    });
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
          process.stdout.write(`no longer watching ${relation} (pipeline ${pipeline})\n`);
        } else if (table !== undefined) {
          const count = await unwatch(client, table, flags);
          process.stdout.write(`no longer watching ${table} (${counted(count, "pipeline")})\n`);
        }
      });
    });
}
