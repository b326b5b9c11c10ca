import type { Command } from "commander";
import { configurationError } from "../errors.js";
import { callSchema } from "../database/call-schema.js";
import { setPaused } from "../admin/pause.sql.js";
import { withContext } from "./context.js";

export function addPause(program: Command): void {
  program
    .command("pause <table>")
    .description("stop embedding a table, at once and on all workers; rows wait")
    .option("--embedding <column>", "only this embedding column (default: all of the table)")
    .addHelpText("after", "\nExample:\n  embedd pause docs")
    .action((table: string, flags: { embedding?: string }, command: Command) =>
      change(command, table, flags.embedding, true),
    );
}

export function addResume(program: Command): void {
  program
    .command("resume <table>")
    .description("go on with a table that was paused")
    .option("--embedding <column>", "only this embedding column (default: all of the table)")
    .addHelpText("after", "\nExample:\n  embedd resume docs")
    .action((table: string, flags: { embedding?: string }, command: Command) =>
      change(command, table, flags.embedding, false),
    );
}

async function change(
  command: Command,
  table: string,
  embedding: string | undefined,
  paused: boolean,
): Promise<void> {
  await withContext(command, async ({ pool }) => {
    const count = await callSchema(() => setPaused(pool, table, embedding, paused));
    if (count === 0)
      throw configurationError("not_watched", `${table} is not watched`, `embedd watch ${table} --content …`);
    process.stdout.write(
      `${paused ? "paused" : "resumed"} ${table}: ${count} ${count === 1 ? "pipeline" : "pipelines"}\n`,
    );
  });
}
