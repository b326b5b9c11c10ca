import type { Pool } from "pg";
import { keyArray, keyCompares, shapeIsCurrent } from "../../database/key-sql.js";
import { parameters } from "../../database/parameters.js";
import type { Pipeline } from "../../database/pipeline.js";
import { checkSameTable } from "../../database/same-table.sql.js";
import { inTransaction } from "../../database/transaction.js";

/*
 * A refresh hands the table to workers in windows: ranges of keys, newest first. The pipeline's cursor says how far it
 * has handed them out, and a window is a row of embedd.refresh_windows until its worker has dealt with it. No row of the
 * table records that it is refreshed, so after a crash the windows of the lost worker are done again, and no more.
 */

/** Rows of a window. A lost worker's window is repeated, so this bounds what a crash costs. */
const WINDOW_ROWS = 2_000;

export interface RefreshWindow {
  id: string;
  /** It starts below this key; null: at the newest. */
  below: string[] | null;
  /** The last key of the window; null: the oldest. */
  downTo: string[] | null;
}

/** Which refresh a worker takes part in. */
export interface RefreshOptions {
  worker: number;
  /** Windows that it is dealing with. */
  mine: readonly string[];
  /** The current model. */
  model: string;
  /** After this long without a renewal, another worker may take the window. */
  windowMs: number;
}

/**
 * Takes a window: one whose worker is gone or frozen, or the next. It gets a new id, so a worker that thaws can neither
 * renew nor end a window that it lost. null: there is none, or the refresh has ended or was restarted. `busy`: another
 * transaction holds the pipeline's row, so it is unknown whether there is one.
 */
export function takeWindow(
  pool: Pool,
  pipeline: Pipeline,
  { worker, mine, model, windowMs }: RefreshOptions,
): Promise<RefreshWindow | "busy" | null> {
  return inTransaction(pool, async (client) => {
    await client.query("set local search_path = pg_catalog");
    await checkSameTable(client, pipeline);
    const refresh = `
       select p.refresh_cursor as cursor
       from embedd.pipelines p
       where p.id = $1 and p.refresh_started_at::text = $2 and coalesce(p.model, p.served_model, $3) = $3`;
    const which = [pipeline.id, pipeline.refreshStartedAt, model];
    const state = await client.query<{ cursor: string[] | null }>(
      `${refresh} for no key update skip locked`,
      which,
    );
    if (state.rows[0] === undefined)
      return (await client.query(refresh, which)).rowCount === 1 ? "busy" : null;
    const { cursor } = state.rows[0];
    const left = await client.query<RefreshWindow>(
      `update embedd.refresh_windows
       set id = default, worker = $2, expires_at = now() + $3 * interval '1 ms'
       where id = (
         select w.id
         from embedd.refresh_windows w
         where w.pipeline_id = $1
           and w.id <> all ($4::bigint[])
           and (w.worker = $2 or w.expires_at < now()
             or w.worker not in (select id from embedd.workers where state = 'live'))
         order by w.id
         limit 1)
       returning id::text, below, down_to as "downTo"`,
      [pipeline.id, worker, windowMs, mine],
    );
    if (left.rows[0] !== undefined) return left.rows[0];
    if (cursor?.length === 0) return null;
    const end = windowEndStatement(pipeline, cursor);
    const downTo = (await client.query<{ key: string[] }>(end.text, end.values)).rows[0]?.key ?? null;
    const next = await client.query<RefreshWindow>(
      `insert into embedd.refresh_windows (pipeline_id, worker, below, down_to, expires_at)
       values ($1, $2, $3, $4, now() + $5 * interval '1 ms')
       returning id::text, below, down_to as "downTo"`,
      [pipeline.id, worker, cursor, downTo, windowMs],
    );
    await client.query("update embedd.pipelines set refresh_cursor = $2 where id = $1", [
      pipeline.id,
      downTo ?? [],
    ]);
    return next.rows[0] ?? null;
  });
}

function windowEndStatement(
  pipeline: Pipeline,
  cursor: string[] | null,
): { text: string; values: unknown[] } {
  const { values, bind } = parameters();
  const columns = pipeline.keys.map((key) => `t.${key.column}`);
  const text = `
select ${keyArray(pipeline, "t")} as key
from ${pipeline.relation} t
${cursor === null ? "" : `where ${keyCompares(pipeline, "<", bind(cursor))}`}
order by ${columns.map((column) => `${column} desc`).join(", ")}
offset ${WINDOW_ROWS - 1} limit 1`;
  return { text, values };
}

/** Keeps other workers from taking a window. */
export async function renewWindow(pool: Pool, windowId: string, windowMs: number): Promise<void> {
  await pool.query(
    "update embedd.refresh_windows set expires_at = now() + $2 * interval '1 ms' where id = $1",
    [windowId, windowMs],
  );
}

/**
 * Ends a window whose rows are all dealt with. It stays for another attempt if vectors could not be written, because
 * the model, the definition or the key of the pipeline is no longer this worker's.
 * @returns whether it ended
 */
export async function finishWindow(
  pool: Pool,
  pipeline: Pipeline,
  { windowId, model, rows }: { windowId: string; model: string; rows: number },
): Promise<boolean> {
  const { rowCount } = await pool.query(
    `
with finished as (
  delete from embedd.refresh_windows w
  where w.id = $1
    and ${shapeIsCurrent(pipeline, "$2")}
    and (select coalesce(p.model, p.served_model, $3) = $3 from embedd.pipelines p where p.id = $2)
  returning w.pipeline_id
)
update embedd.pipelines p
set refreshed = p.refreshed + $4
from finished
where p.id = finished.pipeline_id`,
    [windowId, pipeline.id, model, rows],
  );
  return rowCount === 1;
}

/** Ends a refresh that has reached every row, unless a failed row may still be embedded. @returns whether it ended */
export async function endRefresh(pool: Pool, pipeline: Pipeline, model: string): Promise<boolean> {
  const { rowCount } = await pool.query(
    `
update embedd.pipelines p
set refresh_started_at = null, refresh_cursor = null
where p.id = $1
  and p.refresh_started_at::text = $2
  and p.refresh_cursor = '{}'
  and coalesce(p.model, p.served_model, $3) = $3
  and not exists (select from embedd.refresh_windows w where w.pipeline_id = $1)
  and not exists (select from embedd.failures f where f.pipeline_id = $1 and f.stale and not f.dead)`,
    [pipeline.id, pipeline.refreshStartedAt, model],
  );
  return rowCount === 1;
}
