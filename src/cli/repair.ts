import { Option } from "commander";
import type { Command } from "commander";
import type { Client } from "pg";
import { problemsLeft, repair } from "../admin/repair.js";
import { shellWord } from "../shell-word.js";
import { reportingWaits } from "./build-waits.js";
import type { Context } from "./context.js";
import { withOwner } from "./context.js";
import { EXIT } from "./exit.js";
import { counted } from "./text.js";
import { print, printError } from "./print.js";
import { visibleInLine } from "../visible.js";

export function addRepair(program: Command): void {
  program
    .command("repair <table>")
    .description(
      "restore a watched table's triggers, privileges and index, also after the table was replaced; exit code 3 if another problem remains",
    )
    .option("--embedding <column>", "only this embedding column (default: all of the table)")
    .addOption(
      new Option(
        "--existing <choice>",
        "what to do with vectors that may belong to earlier texts: keep trusts them, refresh embeds their rows again",
      ).choices(["keep", "refresh"]),
    )
    .addHelpText("after", "\nExample:\n  embedd repair docs --existing refresh")
    .action(
      async (
        table: string,
        flags: { embedding?: string; existing?: "keep" | "refresh" },
        command: Command,
      ) => {
        const work = async (client: Client, { pool, hintFor }: Context): Promise<void> => {
          const finish = hintFor(`embedd repair ${shellWord(table)}`);
          const ids = await reportingWaits({ pool, client, finish }, (onIndex) =>
            repair(client, { relation: table, ...flags }, onIndex),
          );
          print(`repaired ${visibleInLine(table)} (${counted(ids.length, "pipeline")})\n`);
          const left = await problemsLeft(client, ids);
          for (const problem of left) printError(`still wrong: ${visibleInLine(problem)}\n`);
          if (left.length > 0) process.exitCode = EXIT.no;
        };
        await withOwner(command, work);
      },
    );
}
