import pg from "pg";
import { EmbeddError, messageOf } from "../errors.js";

/** Exit codes that a script can use. */
export const EXIT = {
  ok: 0,
  /** A provider or a statement failed. */
  fault: 1,
  /** A setting, a table or the command line is wrong; nothing was changed. */
  usage: 2,
  /** It ran, and the answer is no: rows failed, no worker, nothing found. */
  no: 3,
  /** The database is out of reach. */
  unreachable: 4,
} as const;

const UNREACHABLE = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EHOSTUNREACH",
  "ETIMEDOUT",
  "ENOENT",
  "EAI_AGAIN",
  "57P03",
  "3D000",
  "28P01",
  "28000",
]);

/** Prints an error as what, and what to type; returns the exit code. */
export function reportError(error: unknown): number {
  const code = codeOf(error);
  if (error instanceof EmbeddError) {
    process.stderr.write(
      `embedd: ${error.message}\n${error.hint === undefined ? "" : `  try: ${error.hint}\n`}`,
    );
    return error.kind === "configuration" ? EXIT.usage : EXIT.fault;
  }
  if (
    (code !== undefined && UNREACHABLE.has(code)) ||
    /Connection terminated|timeout exceeded when trying to connect|timeout expired/.test(messageOf(error))
  ) {
    process.stderr.write(
      `embedd: the database is out of reach: ${messageOf(error)}\n  try: psql "$DATABASE_URL" -c "select 1"\n`,
    );
    return EXIT.unreachable;
  }
  if (error instanceof pg.DatabaseError && (code === "3F000" || code === "42P01")) {
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
