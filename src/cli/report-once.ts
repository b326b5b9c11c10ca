import { readStatus } from "../admin/status.sql.js";
import { shellWord } from "../shell-word.js";
import type { IdleReport } from "../worker/worker.js";
import type { Context } from "./context.js";
import { EXIT } from "./exit.js";
import { counted, problemLines } from "./text.js";
import { printError } from "./print.js";
import { visibleInLine } from "../visible.js";

/** What the end of a daily limit or quota ends. Then the rows must wait, and nothing is wrong. */
const LIMITS = new Set<unknown>(["daily_limit", "daily_limit_reserved", "quota", "rate_limited"]);

/** Says what `run --once` leaves, and sets the exit code. @throws the failure of a provider or of the database */
export async function reportOnce(
  { pool, hintFor }: Context,
  { failing, problems }: IdleReport,
  { held, model }: { held: number; model: string },
): Promise<void> {
  const failures = failing.filter(({ error }) => !LIMITS.has((error as { code?: unknown }).code));
  for (const { relation } of failures)
    printError(`the pending rows of ${visibleInLine(relation)} cannot be embedded now\n`);
  // The database may be what failed, so nothing else is asked of it.
  if (failures[0] !== undefined) throw failures[0].error;
  const findings: string[] = [];
  const status = await readStatus(pool);
  const failed = status.reduce((sum, p) => sum + p.failed + p.dead, 0);
  if (failed > 0) findings.push(`${counted(failed, "row")} failed; list them with: embedd failures`);
  if (held > 0) {
    findings.push(
      `${counted(held, "row")} could not be written: another transaction holds them locked, or a trigger discards their vectors`,
    );
  }
  for (const { relation, pending, waitReason, vectorIndex } of status) {
    if (waitReason !== null && pending !== 0)
      findings.push(
        `pending rows of ${visibleInLine(relation)}: ${pending ?? "?"}; the worker waits: ${waitReason}`,
      );
    if (vectorIndex === "failed")
      findings.push(`the vector index of ${visibleInLine(relation)} could not be built`);
  }
  const errors = status.flatMap(({ error }) => error ?? []);
  const others = problems.filter((problem) => !errors.includes(problem));
  for (const { relation, error } of status) {
    // A table with a gap or without its index is served all the same.
    const unserved = error !== null && problems.includes(error);
    if (error === null) continue;
    findings.push(
      `${visibleInLine(relation)}${unserved ? " is not served" : ""}: ${problemLines(error, "  ", hintFor)}`,
    );
  }
  for (const problem of others) findings.push(`not served: ${problemLines(problem, "  ", hintFor)}`);
  for (const { relation, pending, paused, model: only } of status) {
    const others = only !== null && only !== model;
    if ((pending ?? 0) === 0 || (!paused && !others)) continue;
    const why = paused
      ? `is paused: ${hintFor(`embedd resume ${shellWord(relation)}`)}`
      : `is for workers of ${only ?? "?"} alone`;
    printError(`${counted(pending ?? 0, "row")} left: ${visibleInLine(relation)} ${why}\n`);
  }
  for (const finding of findings) printError(`${finding}\n`);
  if (findings.length > 0) process.exitCode = EXIT.no;
}
