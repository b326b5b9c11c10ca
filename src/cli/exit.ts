import pg from "pg";
import { isSchemaMissing } from "../database/call-schema.js";
import { EmbeddError, messageOf } from "../errors.js";

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

const UNREACHABLE = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EHOSTUNREACH",
  "ETIMEDOUT",
  "ENOENT",
  "EAI_AGAIN",
  "53300",
  "57P03",
  "3D000",
  "28P01",
  "28000",
]);

/** Prints an error and what to type; returns the exit code. */
export function reportError(error: unknown): number {
  const code = codeOf(error);
  if (error instanceof EmbeddError) {
    process.stderr.write(
      `embedd: ${error.message}\n${error.hint === undefined ? "" : `  try: ${error.hint.replaceAll("\n", "\n  or:  ")}\n`}`,
    );
    return error.kind === "configuration" ? EXIT.usage : EXIT.fault;
  }
  if (
    (code !== undefined && UNREACHABLE.has(code)) ||
    /Connection terminated|timeout exceeded when trying to connect|timeout expired/.test(messageOf(error))
  ) {
    process.stderr.write(
      `embedd: the database is unreachable: ${messageOf(error)}\n  try: psql "$DATABASE_URL" -c "select 1"\n`,
    );
    return EXIT.unreachable;
  }
  if (error instanceof pg.DatabaseError && isSchemaMissing(error)) {
    process.stderr.write(
      `embedd: this database has no embedd schema (${error.message})\n  try: embedd migrate\n`,
    );
    return EXIT.usage;
  }
  process.stderr.write(`embedd: ${messageOf(error)}\n`);
  return EXIT.fault;
}

function codeOf(error: unknown): string | undefined {
  if (error instanceof AggregateError) return codeOf(error.errors[0]);
  const code = typeof error === "object" && error !== null ? (error as { code?: unknown }).code : undefined;
  return typeof code === "string" ? code : undefined;
}
