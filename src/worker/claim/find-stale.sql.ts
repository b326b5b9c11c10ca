import type { Pool } from "pg";
import { mayBeRows } from "../../database/isolate.js";
import {
  hasOrderedKeys,
  keyOrder,
  keyOut,
  keyRow,
  keyText,
  keysAs,
  keysMatch,
  needsVector,
} from "../../database/key-sql.js";
import { parameters } from "../../database/parameters.js";
import type { Statement } from "../../database/parameters.js";
import type { Pipeline } from "../../database/pipeline.js";
import { checkSameTable } from "../../database/same-table.sql.js";
import { inTransaction } from "../../database/transaction.js";

/** Rows walked at once: no index tells stale rows from others, and 10,000 take a few milliseconds. */
const WINDOW_ROWS = 10_000;

export interface StaleSearch {
  /** The pipeline's current model. */
  model: string;
  limit: number;
  /** The search starts below this key; null: at the newest. */
  cursor: string[] | null;
}

export interface FoundStale {
  /** Newest first. */
  keys: string[][];
  /** Where the next search starts. */
  cursor: string[] | null;
  /** The oldest row was reached. */
  over: boolean;
}

/**
 * Searches for stale rows, newest key first. It takes no locks; the claim rechecks what it finds. Where keys
 * cannot be compared with pg_catalog's operators there is no cursor, and every search starts at the newest key.
 * @param readTexts false: blank rows are found too
 */
export function findStaleStatement(
  pipeline: Pipeline,
  { model, limit, cursor }: StaleSearch,
  readTexts = true,
): Statement {
  const { values, bind } = parameters();
  const p = { pipeline: bind(pipeline.id), model: bind(model), limit: bind(limit) };
  const columns = pipeline.keys.map((key) => `t.${key.column}`);
  const belowCursor =
    cursor === null ? "" : `where row(${columns.join(", ")}) < ${keyRow(pipeline, bind(cursor))}`;
  const newestFirst = `from ${pipeline.relation} t
    ${belowCursor}
    order by ${columns.map((column) => `${column} desc`).join(", ")}`;
  const keys = pipeline.keys.map((key, i) => `${keyOut(key, `k${i + 1}`)} as k${i + 1}`).join(", ");
  const window = hasOrderedKeys(pipeline) ? `limit ${WINDOW_ROWS}` : "";
  const hasText = readTexts
    ? `and exists (
      select from ${pipeline.relation} t
      where ${keysMatch(pipeline, "t", "rows")} and ${pipeline.hasText})`
    : "";
  // Execution stops once the limit is reached. The end of the window is looked up only if all of it was read.
  const text = `
with leased as materialized (
  select unnest(l.keys) as key
  from embedd.leases l
  where l.pipeline_id = ${p.pipeline}
),
not_due as materialized (
  select f.key
  from embedd.failures f
  where f.pipeline_id = ${p.pipeline}
    and (f.dead or f.next_attempt_at > now())
),
found as materialized (
  select *
  from (
    select ${keysAs(pipeline, "t")}, ${keyText(pipeline)} as key_text,
      (${needsVector(pipeline, "stale", p.model)}) as stale
    ${newestFirst}
    ${window}
  ) as rows
  where stale
    and key_text not in (select key from leased)
    and key_text not in (select key from not_due)
    ${hasText}
    and (
      select coalesce(p.model, p.served_model, ${p.model}) = ${p.model}
      from embedd.pipelines p
      where p.id = ${p.pipeline})
  order by ${keyOrder(pipeline, "", "desc")}
  limit ${p.limit}
)
select ${keys}, false as edge
from found
union all
select ${keys}, true
from (
  select ${keysAs(pipeline, "t")}
  ${newestFirst}
  offset ${WINDOW_ROWS - 1} limit 1
) as last
where (select count(*) from found) < ${p.limit}`;
  return { text, values };
}

/**
 * Finds up to `limit` stale rows; none if `model` is not the pipeline's current model. If PostgreSQL cannot read one
 * of the texts, blank rows are found too, and `readRows` leaves them out.
 */
export async function findStale(pool: Pool, pipeline: Pipeline, search: StaleSearch): Promise<FoundStale> {
  try {
    return await attemptSearch(pool, pipeline, search, findStaleStatement(pipeline, search));
  } catch (error) {
    if (!mayBeRows(error)) throw error;
    return attemptSearch(pool, pipeline, search, findStaleStatement(pipeline, search, false));
  }
}

async function attemptSearch(
  pool: Pool,
  pipeline: Pipeline,
  search: StaleSearch,
  { text, values }: Statement,
): Promise<FoundStale> {
  const rows = await inTransaction(pool, async (client) => {
    await client.query("set local search_path = pg_catalog");
    await checkSameTable(client, pipeline);
    return (await client.query<{ edge: boolean; [key: `k${number}`]: string }>(text, values)).rows;
  });
  const keyOf = (row: (typeof rows)[number]) => pipeline.keys.map((_, i) => row[`k${i + 1}`] ?? "");
  const keys = rows.filter((row) => !row.edge).map(keyOf);
  if (!hasOrderedKeys(pipeline)) return { keys, cursor: null, over: keys.length === 0 };
  const edge = rows.find((row) => row.edge);
  if (edge !== undefined) return { keys, cursor: keyOf(edge), over: false };
  return { keys, cursor: keys.at(-1) ?? null, over: keys.length < search.limit };
}
