import type { Pool } from "pg";
import {
  hasOrderedKeys,
  keyOrder,
  keyRow,
  keyText,
  keysAs,
  keysMatch,
  waitsForVector,
} from "../../database/key-sql.js";
import type { Pipeline } from "../../database/pipeline.js";
import { inTransaction } from "../../database/transaction.js";

/** Rows walked at once: no index tells stale rows from others, and 10,000 take some milliseconds. */
const WINDOW_ROWS = 10_000;

export interface FoundStale {
  /** Newest first. */
  keys: string[][];
  /** Where the next search goes on. */
  cursor: string[] | null;
  /** The oldest row was reached. */
  over: boolean;
}

/**
 * The search for stale rows, newest key first, beside all locks; what it finds is looked at again by the claim.
 * Where keys cannot be compared by pg_catalog's operators there is no cursor, and every search begins anew.
 */
export function findStaleStatement(pipeline: Pipeline, withCursor: boolean): string {
  const order = pipeline.keys.map((k) => `t.${k.column} desc`).join(", ");
  const columns = pipeline.keys.map((k) => `t.${k.column}`).join(", ");
  const from = `from ${pipeline.relation} t ${withCursor ? `where row(${columns}) < ${keyRow(pipeline, "$4")}` : ""}`;
  const keys = pipeline.keys.map((_, i) => `k${i + 1}::text`).join(", ");
  const window = hasOrderedKeys(pipeline) ? `limit ${WINDOW_ROWS}` : "";
  // The limit reads only as much of the window as it takes; its end is looked for where it was read whole.
  return `
with taken as materialized (
  select unnest(l.keys) as key from embedd.leases l where l.pipeline_id = $1
), waiting as materialized (
  select f.key from embedd.failures f where f.pipeline_id = $1 and (f.dead or f.next_attempt_at > now())
), found as materialized (
  select * from (
    select ${keysAs(pipeline, "t")}, ${keyText(pipeline)} as key_text,
      (${waitsForVector(pipeline, "stale", "$2")}) as stale
    ${from} order by ${order} ${window}
  ) as rows
  where stale and key_text not in (select key from taken) and key_text not in (select key from waiting)
    and exists (select from ${pipeline.relation} t where ${keysMatch(pipeline, "t", "rows")} and ${pipeline.hasText})
    and (select coalesce(p.model, p.served_model, $2) = $2 from embedd.pipelines p where p.id = $1)
  order by ${keyOrder(pipeline, "", "desc")} limit $3
)
select ${keys}, false as edge from found
union all
select ${keys}, true from (
  select ${keysAs(pipeline, "t")} ${from} order by ${order} offset ${WINDOW_ROWS - 1} limit 1
) as last
where (select count(*) from found) < $3`;
}

/** Up to `limit` rows whose vectors are of another model than the pipeline's present one, `model`; none where it is not. */
export async function findStale(
  pool: Pool,
  pipeline: Pipeline,
  { model, limit, cursor }: { model: string; limit: number; cursor: string[] | null },
): Promise<FoundStale> {
  const rows = await inTransaction(pool, async (client) => {
    await client.query("set local search_path = pg_catalog");
    const result = await client.query<{ edge: boolean; [key: `k${number}`]: string }>(
      findStaleStatement(pipeline, cursor !== null),
      [pipeline.id, model, limit, ...(cursor === null ? [] : [cursor])],
    );
    return result.rows;
  });
  const key = (row: (typeof rows)[number]) => pipeline.keys.map((_, i) => row[`k${i + 1}`] ?? "");
  const keys = rows.filter((row) => !row.edge).map(key);
  if (!hasOrderedKeys(pipeline)) return { keys, cursor: null, over: keys.length === 0 };
  const edge = rows.find((row) => row.edge);
  if (edge !== undefined) return { keys, cursor: key(edge), over: false };
  return { keys, cursor: keys.at(-1) ?? null, over: keys.length < limit };
}
