import pg from "pg";
import { isSchemaMissing } from "../database/call-schema.js";
import type { ErrorCode } from "../error-codes.js";
import { EmbeddError, messageOf } from "../errors.js";
import { forShell } from "./text.js";
import { visibleInLine } from "../visible.js";
import { printError } from "./print.js";

/** The exit codes, for scripts. `embedd --help`, README and docs/reference.md print them from here. */
export const EXIT_CODES = [
  { code: 0, name: "ok", meaning: "success" },
  { code: 1, name: "fault", meaning: "a provider or a statement failed, or a signal stopped the command" },
  { code: 2, name: "usage", meaning: "invalid settings or usage, nothing changed" },
  {
    code: 3,
    name: "no",
    meaning: "it ran but found a problem (failed rows, a table that is not served, no worker, nothing found)",
  },
  { code: 4, name: "unreachable", meaning: "the database is unreachable" },
] as const;

type ExitName = (typeof EXIT_CODES)[number]["name"];

export const EXIT = Object.fromEntries(EXIT_CODES.map(({ name, code }) => [name, code])) as Record<
  ExitName,
  number
>;

/** All exit codes in one line. */
export function exitCodesLine(): string {
  return `Exit codes: ${EXIT_CODES.map(({ code, meaning }) => `${code} ${meaning}`).join("; ")}.`;
}

const UNREACHABLE = new Set<ErrorCode>([
  "database_unavailable",
  "database_unreachable",
  "embedded_stopped",
  "login",
  "no_such_database",
  "tls",
]);

/** Codes whose messages have several lines, all of embedd. Any other line break is part of a name or of another's error. */
const SEVERAL_LINES = new Set<ErrorCode>(["model_config", "native_library", "settings"]);

/** Prints an error and what to type; returns the exit code. */
export function reportError(error: unknown): number {
  if (error instanceof EmbeddError) {
    printError(
      `embedd: ${SEVERAL_LINES.has(error.code) ? error.message : visibleInLine(error.message)}\n${error.hint === undefined ? "" : `  try: ${forShell(error.hint).replaceAll("\n", "\n  or:  ")}\n`}`,
    );
    if (UNREACHABLE.has(error.code)) return EXIT.unreachable;
    return error.kind === "configuration" ? EXIT.usage : EXIT.fault;
  }
  if (error instanceof pg.DatabaseError && isSchemaMissing(error)) {
    printError(
      `embedd: this database has no embedd schema (${visibleInLine(error.message)})\n  try: embedd migrate\n`,
    );
    return EXIT.usage;
  }
  printError(`embedd: ${visibleInLine(messageOf(error))}\n`);
  return EXIT.fault;
}
