import type { Command } from "commander";
import { callSchema } from "../database/call-schema.js";
import { listFailures, retryFailures } from "../admin/failures.sql.js";
import type { FailureEntry } from "../admin/failures.sql.js";
import { wholeNumber } from "./arguments.js";
import { withContext } from "./context.js";
import { EXIT } from "./exit.js";
import { counted, printResult } from "./text.js";
import { print, printError } from "./print.js";

interface FailuresFlags {
  table?: string;
  dead?: boolean;
  limit: number;
  json?: boolean;
}

export function addFailures(program: Command): void {
  program
    .command("failures")
    .description("list failed rows, each with its error and its next attempt")
    .option("--table <name>", "only this table")
    .option("--dead", "only dead rows, which are no longer retried")
    .option("--limit <n>", "show at most this many rows", wholeNumber, 100)
    .option("--json", "print JSON")
    .addHelpText("after", "\nExample:\n  embedd failures --table docs --dead")
    .action(async (flags: FailuresFlags, command: Command) => {
      await withContext(command, async ({ pool }) => {
        const { table: relation, dead: deadOnly = false, limit } = flags;
        const found = await callSchema(() => listFailures(pool, { relation, deadOnly, limit: limit + 1 }));
        printResult(found.slice(0, limit), flags.json, formatFailures);
        if (found.length > limit) printError("more rows exist; raise --limit\n");
      });
    });
}

export function addRetry(program: Command): void {
  program
    .command("retry")
    .description("retry failed rows now, dead ones too")
    .option("--table <name>", "only this table")
    .option("--key <key>", "only this row; the key as embedd failures shows it")
    .addHelpText("after", "\nExample:\n  embedd retry --table docs --key 42")
    .action(async (flags: { table?: string; key?: string }, command: Command) => {
      await withContext(command, async ({ pool }) => {
        const count = await callSchema(() => retryFailures(pool, { relation: flags.table, key: flags.key }));
        print(`${counted(count, "row")} will be retried\n`);
        if (count === 0) process.exitCode = EXIT.no;
      });
    });
}

function formatFailures(rows: readonly FailureEntry[]): string {
  if (rows.length === 0) return "no failed rows\n";
  return rows
    .map(
      (row) =>
        `${row.relation}.${row.embedding}  key ${row.key}  ${row.code}: ${row.error}\n` +
        `  ${counted(row.attempts, "attempt")}, last at ${row.failedAt.toISOString()}; ` +
        `${row.dead ? "dead" : `next at ${row.nextAttemptAt.toISOString()}`}\n`,
    )
    .join("");
}
