import type { Command } from "commander";
import { callSchema } from "../database/call-schema.js";
import { listFailures, retryFailures } from "../admin/failures.sql.js";
import type { FailureEntry } from "../admin/failures.sql.js";
import { wholeNumber } from "./arguments.js";
import { withContext } from "./context.js";
import { EXIT } from "./exit.js";

interface FailuresFlags {
  table?: string;
  dead?: boolean;
  limit: number;
  json?: boolean;
}

export function addFailures(program: Command): void {
  program
    .command("failures")
    .description("the rows that could not be embedded, why, and when they are tried again")
    .option("--table <name>", "only this table")
    .option("--dead", "only those that are not tried again")
    .option("--limit <n>", "how many rows", wholeNumber, 100)
    .option("--json", "for scripts")
    .addHelpText("after", "\nExample:\n  embedd failures --table docs --dead")
    .action(async (flags: FailuresFlags, command: Command) => {
      await withContext(
        command,
        async ({ pool }) => {
          const { table: relation, dead: deadOnly = false, limit } = flags;
          const found = await callSchema(() => listFailures(pool, { relation, deadOnly, limit: limit + 1 }));
          const rows = found.slice(0, limit);
          process.stdout.write(
            flags.json === true ? `${JSON.stringify(rows, null, 2)}\n` : formatFailures(rows),
          );
          if (found.length > limit) process.stderr.write("there are more: --limit\n");
        },
        { quiet: true },
      );
    });
}

export function addRetry(program: Command): void {
  program
    .command("retry")
    .description("try failed rows again at once, dead ones as well")
    .option("--table <name>", "only this table")
    .option("--key <key>", "only this row, its key as embedd failures shows it")
    .addHelpText("after", "\nExample:\n  embedd retry --table docs --key 42")
    .action(async (flags: { table?: string; key?: string }, command: Command) => {
      await withContext(command, async ({ pool }) => {
        const count = await callSchema(() => retryFailures(pool, { relation: flags.table, key: flags.key }));
        process.stdout.write(`${count} ${count === 1 ? "row" : "rows"} to be tried again\n`);
        if (count === 0) process.exitCode = EXIT.no;
      });
    });
}

function formatFailures(rows: readonly FailureEntry[]): string {
  if (rows.length === 0) return "no row has failed\n";
  return rows
    .map(
      (row) =>
        `${row.relation}.${row.embedding}  key ${row.key}  ${row.code}: ${row.error}\n` +
        `  ${row.attempts} ${row.attempts === 1 ? "attempt" : "attempts"}, the last ${row.failedAt.toISOString()}; ` +
        `${row.dead ? "dead" : `next ${row.nextAttemptAt.toISOString()}`}\n`,
    )
    .join("");
}
