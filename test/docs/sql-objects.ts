import type { QueryResult } from "pg";
import { escapeMarkdown } from "./markers.js";

type Query = (
  sql: string,
) => Promise<QueryResult<{ heading: string; comment: string; columns: string[] | null }>>;

/** The tables and functions that users may rely on; all views are. */
const TABLES = ["chunks", "failures", "pipelines", "usage", "vectors"];
const FUNCTIONS = [
  "grant_owner",
  "grant_worker",
  "model_of",
  "repair",
  "revoke_trust",
  "revoke_worker",
  "trust_owner",
  "unwatch",
  "watch",
];

const RELATIONS_SQL = `
  select format('embedd.%s (%s)', c.relname, case c.relkind when 'v' then 'view' else 'table' end) as heading,
    coalesce(obj_description(c.oid, 'pg_class'), '') as comment,
    (select array_agg(format('\`%s\` %s', a.attname, format_type(a.atttypid, a.atttypmod))
        || coalesce(': ' || col_description(c.oid, a.attnum), '') order by a.attnum)
     from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns
  from pg_class c
  where c.relnamespace = 'embedd'::regnamespace
    and (c.relkind = 'v' or c.relkind = 'r' and c.relname in (${TABLES.map((name) => `'${name}'`).join()}))
  order by c.relkind desc, c.relname`;

const FUNCTIONS_SQL = `
  select format('embedd.%s(%s) returns %s', p.proname, pg_get_function_arguments(p.oid),
      pg_get_function_result(p.oid)) as heading,
    coalesce(obj_description(p.oid, 'pg_proc'), '') as comment, null::text[] as columns
  from pg_proc p
  where p.pronamespace = 'embedd'::regnamespace and p.proname in (${FUNCTIONS.map((name) => `'${name}'`).join()})
  order by p.proname`;

/** @throws Error if one of them is missing, or has no COMMENT */
export async function renderSqlObjects(query: Query): Promise<string> {
  const relations = (await query(RELATIONS_SQL)).rows;
  const functions = (await query(FUNCTIONS_SQL)).rows;
  const missing = TABLES.length + FUNCTIONS.length - relations.length - functions.length;
  const views = relations.filter(({ heading }) => heading.endsWith("(view)")).length;
  if (missing + views !== 0) throw new Error("a table or a function of test/docs/sql-objects.ts is missing");
  const bare = [...relations, ...functions].filter(({ comment }) => comment === "");
  if (bare.length > 0) throw new Error(`no COMMENT: ${bare.map(({ heading }) => heading).join("; ")}`);
  return [
    ...relations.map(({ heading, comment, columns }) => {
      const items = (columns ?? []).map((column) => `- ${escapeMarkdown(column)}`);
      return `### ${heading}\n\n${escapeMarkdown(comment)}\n\n${items.join("\n")}`;
    }),
    "### Functions",
    ...functions.map(
      ({ heading, comment }) => `\`\`\`\n${signature(heading)}\n\`\`\`\n\n${escapeMarkdown(comment)}`,
    ),
  ].join("\n\n");
}

/** A long signature gets one line per argument. */
function signature(heading: string): string {
  const text = heading.replaceAll("::text", "");
  if (text.length <= 100) return text;
  return text.replace(/\((.*)\)/, (_, list: string) => `(\n  ${list.replaceAll(", ", ",\n  ")}\n)`);
}
