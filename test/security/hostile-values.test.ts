import { expect, it } from "vitest";
import { listFailures } from "#embedd/admin/failures.sql.js";
import { countWorkers, cutToday, readStatus } from "#embedd/admin/status.sql.js";
import { followNames, loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import { duePipelines } from "#embedd/worker/wake/due-pipelines.sql.js";
import type { Pool, PoolClient } from "pg";
import { useDatabase } from "../helpers/database.js";
import { createRole } from "../helpers/watched-table.js";

const db = useDatabase();

/** By type of the column: values that no worker has a reason to write. */
const HOSTILE: Record<string, string[]> = {
  "timestamp with time zone": ["infinity", "-infinity", "294276-12-31", "4714-11-24 BC"],
  date: ["infinity", "-infinity"],
  numeric: ["NaN", "Infinity", "-Infinity", "1e300"],
  bigint: ["9223372036854775807", "-9223372036854775808"],
  integer: ["2147483647", "-2147483648"],
  jsonb: ["5", "[]", "null", '"x"'],
};

/** The columns of embedd's tables that a worker's role may write to, with a row in each table. */
async function writable(role: string): Promise<{ table: string; column: string; type: string }[]> {
  await db.query(`
    create table docs (id int primary key, body text, embedding vector(384), embedding_model text);
    select embedd.watch('docs', '{body}'), embedd.grant_worker('${role}');
    insert into docs values (1, 'pending', null, null), (2, 'done', array_fill(0.5, array[384])::vector, 'm');
    update embedd.pipelines
    set wait_reason = 'waits', wait_until = now() + interval '1 h', caught_up_at = now(), served_model = 'm',
      refresh_started_at = now(), refreshed = 1;
    insert into embedd.leases (pipeline_id, worker, keys, expires_at)
    select id, 1, '{1}', now() + interval '1 h' from embedd.pipelines;
    insert into embedd.refresh_windows (pipeline_id, worker, expires_at) select id, 1, now() from embedd.pipelines;
    insert into embedd.failures (pipeline_id, key, content_hash, code, error, next_attempt_at)
    select id, '1', 'x', 'c', 'e', now() from embedd.pipelines;
    insert into embedd.usage (pipeline_id, day, model, texts, cut_texts)
    select id, (now() at time zone 'UTC')::date, m, 1, 1 from embedd.pipelines, unnest('{a,b}'::text[]) m;
    insert into embedd.heartbeats (worker) values (1)`);
  const { rows } = await db.query<{ table: string; column: string; type: string }>(
    `
    select a.attrelid::regclass::text as table, quote_ident(a.attname) as column, format_type(a.atttypid, null) as type
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relkind = 'r' and c.relnamespace = 'embedd'::regnamespace
    where a.attnum > 0 and not a.attisdropped and has_column_privilege($1, c.oid, a.attnum, 'UPDATE')
    order by 1, a.attnum`,
    [role],
  );
  return rows;
}

/** Reads all that commands and other workers read. */
async function readAll(client: PoolClient): Promise<unknown[]> {
  return [
    await readStatus(client),
    (await client.query("select * from embedd.status")).rows,
    await cutToday(client),
    await countWorkers(client),
    await listFailures(client as unknown as Pool, { deadOnly: false, limit: 100 }),
    (await client.query("select * from embedd.workers")).rows,
    await followNames(client),
    await loadPipelines(client),
    await duePipelines(client, [1, 2]),
  ];
}

/** Dates and numbers that a program can print. */
function isUsable(value: unknown): boolean {
  if (typeof value === "number") return Number.isFinite(value);
  if (value instanceof Date) return !Number.isNaN(value.getTime());
  if (Array.isArray(value)) return value.every(isUsable);
  return value === null || typeof value !== "object" || Object.values(value).every(isUsable);
}

it("nothing that a worker's role writes into embedd's tables breaks what others read there", async () => {
  const { role } = await createRole(db);
  const columns = await writable(role);
  expect(columns.length).toBeGreaterThan(40);
  const broken: string[] = [];
  const client = await db.pool.connect();
  try {
    await client.query("begin");
    expect(isUsable(await readAll(client))).toBe(true);
    for (const { table, column, type } of columns) {
      for (const value of HOSTILE[type] ?? []) {
        await client.query("savepoint before");
        const written = await client
          .query(`set local role ${role}; update ${table} set ${column} = '${value}'; reset role`)
          .then(
            () => true,
            () => false,
          );
        if (written) {
          const usable = await readAll(client).then(isUsable, () => false);
          if (!usable) broken.push(`${table}.${column} = ${value}`);
        }
        await client.query("rollback to before");
      }
    }
  } finally {
    await client.query("rollback");
    client.release();
  }
  expect(broken).toEqual([]);
  await db.query("delete from embedd.leases; delete from embedd.heartbeats");
});
