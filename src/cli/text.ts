import type { NotificationQueue } from "../admin/notification-queue.sql.js";
import type { ForeignLock } from "../database/turns.sql.js";
import { shellWord } from "../shell-word.js";
import { visibleInLine } from "../visible.js";
import { print } from "./print.js";

/** Shortens a text to one line of at most `length` characters. */
export function excerpt(text: string, length: number): string {
  const line = text.replace(/\s+/g, " ").trim();
  const characters = Array.from(line);
  return characters.length <= length ? line : `${characters.slice(0, length - 1).join("")}…`;
}

/** `1 row`, `2 rows`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Prints a result for scripts. */
export function printJson(result: unknown): void {
  print(`${JSON.stringify(result, null, 2)}\n`);
}

/** Prints a result as JSON for scripts, or as text for people. */
export function printResult<T>(result: T, json: boolean | undefined, format: (result: T) => string): void {
  if (json === true) printJson(result);
  else print(format(eachInLine(result)));
}

/** The same result, whose strings begin no line of their own. */
function eachInLine<T>(value: T): T {
  if (typeof value === "string") return visibleInLine(value) as T;
  if (Array.isArray(value)) return value.map(eachInLine) as T;
  if (value === null || typeof value !== "object" || value instanceof Date) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, part]) => [visibleInLine(name), eachInLine(part as unknown)]),
  ) as T;
}

/** A stranger's lock, in a line. */
export function describeForeignLock({ class: name, id, mode, pid, role }: ForeignLock): string {
  const how = mode === "ExclusiveLock" ? "alone" : "shared";
  const who = pid === null ? "a prepared transaction" : `pid ${pid}`;
  return `foreign lock: role ${role} (${who}) holds the ${name} lock ${id} ${how}; it costs latency only`;
}

/** The queue of notifications that fills up, in a line. */
export function describeQueue({ usage, limit, holder }: NotificationQueue): string {
  const share = `the server's queue of notifications is ${Math.round(usage * 100)} % full`;
  const effect = usage >= limit ? "; workers find rows by polling until it empties" : "";
  const who =
    holder === null
      ? "a session that listens and stays in a transaction holds it"
      : `the oldest transaction probably holds it: pid ${holder.pid}, role ${holder.role}, ` +
        `database ${holder.database}, for ${holder.seconds} s`;
  return `${share}${effect}; ${who}`;
}

/** What is wrong with a table that has triggers of embedd and no pipeline. */
export const strayTable = (table: string): string =>
  `${table} has triggers of embedd, but is not watched: its rows get no vectors`;

/**
 * What embedd.status says is wrong with a table: a sentence, and what to type on a line of its own. The two are
 * parted by a semicolon.
 * @param indent of the lines after the first
 */
export function problemLines(problem: string, indent: string, hintFor: (hint: string) => string): string {
  return visibleInLine(problem)
    .split(/; (?=embedd |ALTER |to follow )/)
    .map((part) => (/^(embedd|ALTER) /.test(part) ? `try: ${hintFor(part)}` : part))
    .join(`\n${indent}`);
}

/** The statements that hints hold, with a remark behind them. */
const STATEMENT = /^((?:ALTER|BEGIN|CREATE|DROP|GRANT|SELECT|UPDATE)\b.*;)(?: {2}-- (.*))?$/is;

/** A line of a hint: quoted names and values, which may hold line breaks, then a remark. */
const HINT_LINE = /(?:"[^"]*"|'[^']*'|(?! {2}(?:#|--) )[^\n"'])+(?: {2}(?:#|--) .*)?/g;

/** The alternatives that a hint gives, one per line. A line break within a quoted name begins none. */
function hintLines(hint: string): string[] {
  const lines = hint.match(HINT_LINE) ?? [];
  return lines.join("\n") === hint ? lines : hint.split("\n");
}

/** The same hint for a command that used embedded PostgreSQL, whose address is in no variable. */
export function forEmbedded(hint: string, databaseUrl: string, dataDir: string | undefined): string {
  const flags = dataDir === undefined ? "--embedded" : `--embedded --data-dir ${shellWord(dataDir)}`;
  return forShell(hint)
    .replaceAll('"$DATABASE_URL"', `"${databaseUrl}"`)
    .replace(/(^|# or: |&& )(embedd [a-z]+(?:-[a-z]+)*)/gm, (_, before: string, command: string) => {
      return `${before}${command} ${flags}`;
    });
}

/** What to type in a shell: each line of a hint that is SQL becomes a call of psql. */
export function forShell(hint: string): string {
  return hintLines(hint)
    .map((line) => {
      const [, sql, remark] = STATEMENT.exec(line) ?? [];
      if (sql === undefined) return visibleInLine(line);
      return `psql "$DATABASE_URL" -c ${shellWord(sql)}${remark === undefined ? "" : `  # ${remark}`}`;
    })
    .join("\n");
}
