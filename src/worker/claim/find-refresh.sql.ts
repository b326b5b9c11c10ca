import type { Pool } from "pg";
import { keyArray, keyCompares, keyOutOf, keyText } from "../../database/key-sql.js";
import { parameters } from "../../database/parameters.js";
import type { Pipeline } from "../../database/pipeline.js";
import { checkSameTable } from "../../database/same-table.sql.js";
import { inTransaction } from "../../database/transaction.js";
import { parseRecord } from "./parse-record.js";
import type { RefreshWindow } from "./refresh-windows.sql.js";

/** A row that a refresh has yet to embed. */
export interface RefreshRow {
  /** Text form of each key column. */
  key: string[];
  /** Text form of the whole key, as leases and failures store it. */
  keyText: string;
}

/** Failed rows tried again at once. */
const MAX_DUE = 1_000;

/** Lists the rows of a window that have a vector, newest key first. Reads no text. */
export async function findInWindow(
  pool: Pool,
  pipeline: Pipeline,
  { below, downTo }: Pick<RefreshWindow, "below" | "downTo">,
): Promise<RefreshRow[]> {
  const { values, bind } = parameters();
  const columns = pipeline.keys.map((key) => `t.${key.column}`);
  const conditions = [
    `t.${pipeline.embedding} is not null`,
    ...(below === null ? [] : [keyCompares(pipeline, "<", bind(below))]),
    ...(downTo === null ? [] : [keyCompares(pipeline, ">=", bind(downTo))]),
  ];
  const text = `
select ${keyArray(pipeline, "t")} as key, ${keyText(pipeline)} as "keyText"
from ${pipeline.relation} t
where ${conditions.join("\n  and ")}
order by ${columns.map((column) => `${column} desc`).join(", ")}`;
  return inTransaction(pool, async (client) => {
    await client.query("set local search_path = pg_catalog");
    await checkSameTable(client, pipeline);
    return (await client.query<RefreshRow>(text, values)).rows;
  });
}

/** Lists rows whose re-embedding failed and may be tried again now. */
export async function findDueFailures(pool: Pool, pipeline: Pipeline): Promise<RefreshRow[]> {
  const { rows } = await pool.query<{ key: string }>(
    `select f.key
     from embedd.failures f
     where f.pipeline_id = $1 and f.stale and not f.dead and f.next_attempt_at <= now()
     order by f.next_attempt_at
     limit ${MAX_DUE}`,
    [pipeline.id],
  );
  return rows.map(({ key }) => ({
    key: (pipeline.keys.length === 1 ? [key] : parseRecord(key)).map((text, i) => {
      const column = pipeline.keys[i];
      return column === undefined ? text : keyOutOf(column, text);
    }),
    keyText: key,
  }));
}

/** Of these rows, the key texts of those in a batch of any worker. */
export async function leasedOf(
  pool: Pool,
  pipeline: Pipeline,
  rows: readonly RefreshRow[],
): Promise<Set<string>> {
  const result = await pool.query<{ key: string }>(
    `select key
     from embedd.leases l, unnest(l.keys) as key
     where l.pipeline_id = $1 and key = any ($2)`,
    [pipeline.id, rows.map(({ keyText }) => keyText)],
  );
  return new Set(result.rows.map(({ key }) => key));
}

/** Forgets due failures of rows that no longer need a vector: they are gone, pending, or have a new text. */
export async function forgetFailures(
  pool: Pool,
  pipeline: Pipeline,
  rows: readonly RefreshRow[],
): Promise<void> {
  await pool.query(
    `delete from embedd.failures f
     where f.pipeline_id = $1 and f.key = any ($2) and f.stale and not f.dead and f.next_attempt_at <= now()`,
    [pipeline.id, rows.map(({ keyText }) => keyText)],
  );
}
