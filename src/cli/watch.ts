import { Option } from "commander";
import type { Command } from "commander";
import { withOwnerClient } from "../database/pool.js";
import { unwatch, watch } from "../admin/watch.js";
import { wholeNumber } from "./arguments.js";
import { withContext } from "./context.js";

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

export function addWatch(program: Command): void {
  program
    .command("watch <table>")
    .description("embed the rows of a table, those that are there and those to come")
    .requiredOption("--content <column...>", "the columns that hold the text, in order")
    .option("--embedding <column>", "the vector(n) or halfvec(n) column", "embedding")
    .option(
      "--model-column <column>",
      "where the model's name goes (default: the embedding column's name and _model)",
    )
    .option("--template <text>", "how the columns make one text, such as '{title}\\n\\n{body}'")
    .option("--model <name>", "only a worker of this model (default: whichever runs)")
    .option("--create-columns", "add the embedding and model columns where they are missing")
    .option("--dimensions <n>", "of the column that --create-columns adds", wholeNumber, 384)
    .addOption(
      new Option("--index <method>", "a worker builds it CONCURRENTLY once the backlog is done").choices([
        "hnsw",
      ]),
    )
    .addHelpText(
      "after",
      "\nExample:\n  embedd watch docs --content title body --template '{title}\\n\\n{body}' --create-columns --index hnsw",
    )
    .action(async (table: string, flags: WatchFlags, command: Command) => {
      const { createColumns, dimensions, ...rest } = flags;
      await withContext(command, ({ databaseUrl }) =>
        withOwnerClient(databaseUrl, async (client) => {
          const options = {
            ...rest,
            relation: table,
            createColumns: createColumns === true ? dimensions : undefined,
          };
          const id = await watch(client, options, () => {
            process.stderr.write("building the index of waiting rows; writers go on\n");
          });
          process.stdout.write(`pipeline ${id}: ${table}\n`);
        }),
      );
    });
}

export function addUnwatch(program: Command): void {
  program
    .command("unwatch <table>")
    .description("leave a table: triggers, indexes and grants go, vectors stay")
    .option("--embedding <column>", "only this embedding column (default: all of the table)")
    .option("--drop-columns", "the vectors and their model's names go as well")
    .addHelpText("after", "\nExample:\n  embedd unwatch docs")
    .action(async (table: string, flags: { embedding?: string; dropColumns?: boolean }, command: Command) => {
      await withContext(command, ({ databaseUrl }) =>
        withOwnerClient(databaseUrl, async (client) => {
          const count = await unwatch(client, table, flags);
          process.stdout.write(`left ${table}: ${count} ${count === 1 ? "pipeline" : "pipelines"}\n`);
        }),
      );
    });
}
