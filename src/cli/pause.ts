import type { Command } from "commander";
import { callSchema } from "../database/call-schema.js";
import { setPaused } from "../admin/pause.sql.js";
import { withContext } from "./context.js";
import { counted } from "./text.js";
import { print } from "./print.js";
import { visibleInLine } from "../visible.js";

export function addPause(program: Command): void {
  addSwitch(program, "pause", "stop embedding a table on all workers; its rows stay pending", true);
}

export function addResume(program: Command): void {
  addSwitch(program, "resume", "embed a paused table again", false);
}

function addSwitch(program: Command, name: string, description: string, paused: boolean): void {
  program
    .command(`${name} <table>`)
    .description(description)
    .option("--embedding <column>", "only this embedding column (default: all of the table)")
    .addHelpText("after", `\nExample:\n  embedd ${name} docs`)
    .action(async (table: string, { embedding }: { embedding?: string }, command: Command) => {
      await withContext(command, async ({ pool }) => {
        const count = await callSchema(() => setPaused(pool, table, embedding, paused));
        print(`${name}d ${visibleInLine(table)}: ${counted(count, "pipeline")}\n`);
      });
    });
}
