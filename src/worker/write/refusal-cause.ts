import type pg from "pg";

type Fields = Pick<pg.DatabaseError, "schema" | "table" | "column" | "dataType" | "constraint" | "where">;

/** The longest name that PostgreSQL gives to an object. A trigger can put any text into an error's fields. */
const MAX_NAME = 63;
const MAX_FUNCTIONS = 3;

const NAME = String.raw`(?:"(?:[^"]|"")+"|[\p{L}_][\p{L}\p{N}_$]*)`;
/** `PL/pgSQL function public.guard() line 3 at RAISE`, in any language of the server. */
const FUNCTION_LINE = new RegExp(String.raw`PL/\w+.*?[\s«"„]((?:${NAME}\.)?${NAME}\([^()'"]*\))`, "u");

/**
 * The objects that a server's error names: constraint, table, column, type. Never its message or detail, which may
 * quote the row.
 */
export function namedObjects({ schema, table, column, dataType, constraint }: Fields): string[] {
  const qualified = (name: string) => (schema === undefined ? name : `${schema}.${name}`);
  const named = [
    constraint === undefined ? [] : `constraint ${bounded(constraint)}`,
    column === undefined ? [] : `column ${bounded(column)}`,
    dataType === undefined ? [] : `type ${bounded(qualified(dataType))}`,
    table === undefined ? [] : `table ${bounded(qualified(table))}`,
  ];
  return named.flat();
}

/** The functions that an error came through, innermost first, as `regprocedure` reads them. */
export function functionsIn({ where }: Fields): string[] {
  const found = (where ?? "").split("\n").flatMap((line) => FUNCTION_LINE.exec(line)?.[1] ?? []);
  return [...new Set(found)].slice(0, MAX_FUNCTIONS);
}

const bounded = (name: string): string =>
  name.length > MAX_NAME * 2 + 1 ? `${name.slice(0, MAX_NAME)}…` : name;
