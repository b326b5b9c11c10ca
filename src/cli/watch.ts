import type { Command } from "commander";
import { unwatch, watch } from "../sql/watch.js";
import { withContext } from "./context.js";

interface WatchFlags {
  content: string[];
  embedding: string;
  model?: string;
  modelColumn?: string;
  template?: string;
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
    .addHelpText(
      "after",
      "\nExample:\n  embedd watch docs --content title body --template '{title}\\n\\n{body}'",
    )
    .action(async (table: string, flags: WatchFlags, command: Command) => {
      await withContext(command, async ({ pool }) => {
        const client = await pool.connect();
        try {
          const id = await watch(client, { relation: table, ...flags }, () => {
            process.stderr.write("building the index of waiting rows; writers go on\n");
          });
          process.stdout.write(`pipeline ${id}: ${table}\n`);
        } finally {
          client.release(true);
        }
      });
    });
}

export function addUnwatch(program: Command): void {
  program
    .command("unwatch <table>")
    .description("leave a table: triggers and index go, vectors stay")
    .option("--embedding <column>", "only this embedding column (default: all of the table)")
    .addHelpText("after", "\nExample:\n  embedd unwatch docs")
    .action(async (table: string, flags: { embedding?: string }, command: Command) => {
      await withContext(command, async ({ pool }) => {
        const client = await pool.connect();
        try {
          const count = await unwatch(client, table, { embedding: flags.embedding });
          process.stdout.write(`left ${table}: ${count} ${count === 1 ? "pipeline" : "pipelines"}\n`);
        } finally {
          client.release(true);
        }
      });
    });
}
