import { setTimeout } from "node:timers/promises";
import pg from "pg";
import type { ClientBase } from "pg";
import { clientConfig } from "../database/pool.js";

/** What stands between a role and the work on one pipeline; null where nothing does. */
export interface PipelineInspection {
  id: number;
  relation: string;
  embedding: string;
  error: string | null;
  missingPrivileges: string[] | null;
  rowSecurity: boolean;
  /** Triggers that are missing, disabled, or (before_update) not enabled for replicated changes. */
  triggers: string[] | null;
  pendingIndex: "ready" | "missing" | "invalid";
}

/** Looks at every pipeline with the eyes of the present role. Reads catalogs only. */
export async function inspectPipelines(client: ClientBase): Promise<PipelineInspection[]> {
  const { rows } = await client.query<PipelineInspection>(`
select p.id, p.relation::text as relation, p.embedding_column as embedding, p.error,
  (select array_agg(distinct n.privilege || ' on ' || quote_ident(n.name))
   from (select unnest(p.key_columns || p.content_columns || array[p.embedding_column, p.model_column]), 'SELECT'
     union all select unnest(array[p.embedding_column, p.model_column]), 'UPDATE') n (name, privilege)
   join pg_attribute a on a.attrelid = p.relation and a.attname = n.name and not a.attisdropped
   where not has_column_privilege(p.relation, a.attnum, n.privilege)) as "missingPrivileges",
  coalesce(row_security_active(c.oid), false) as "rowSecurity",
  (select array_agg(w.name) from unnest(array['after_insert', 'before_update', 'after_update']) w (name)
   where c.oid is not null and not exists (
     select from pg_trigger t where t.tgrelid = p.relation and t.tgname = format('zzz_embedd_%s__%s', p.id, w.name)
       and (t.tgenabled = 'A' or (t.tgenabled = 'O' and w.name <> 'before_update')))) as triggers,
  coalesce((select case when i.indisvalid then 'ready' else 'invalid' end
    from pg_index i join pg_class x on x.oid = i.indexrelid
    where i.indrelid = p.relation and x.relname = embedd.pending_index_name(p.id)), 'missing') as "pendingIndex"
from embedd.pipelines p left join pg_class c on c.oid = p.relation
order by p.id`);
  return rows;
}

export interface ServerInspection {
  version: string;
  versionNumber: number;
  pgvector: string | null;
  migrated: boolean;
  /** Of the role on embedd's own tables. */
  ownTables: boolean;
  role: string;
  /** Milliseconds that the server's clock is ahead of ours. */
  clockAheadMs: number;
}

export async function inspectServer(client: ClientBase): Promise<ServerInspection> {
  const before = Date.now();
  const { rows } = await client.query<Omit<ServerInspection, "clockAheadMs"> & { ms: number }>(`
select current_setting('server_version') as version, current_setting('server_version_num')::int as "versionNumber",
  (select extversion from pg_extension where extname = 'vector') as pgvector,
  own.pipelines is not null as migrated,
  coalesce(has_schema_privilege(own.schema, 'USAGE') and has_table_privilege(own.pipelines, 'SELECT')
    and has_table_privilege(own.leases, 'SELECT') and has_table_privilege(own.leases, 'INSERT')
    and has_table_privilege(own.leases, 'UPDATE') and has_table_privilege(own.leases, 'DELETE'), false) as "ownTables",
  current_user::text as role,
  extract(epoch from clock_timestamp())::float8 * 1000 as ms
from (select n.oid as schema, max(c.oid) filter (where c.relname = 'pipelines') as pipelines,
    max(c.oid) filter (where c.relname = 'leases') as leases
  from (select) as one left join pg_namespace n on n.nspname = 'embedd' left join pg_class c on c.relnamespace = n.oid
  group by n.oid) as own`);
  const row = rows[0];
  if (row === undefined) throw new Error("the server gave no answer");
  const { ms, ...server } = row;
  return { ...server, clockAheadMs: ms - (before + Date.now()) / 2 };
}

/**
 * Whether notifications and session locks come through, which a transaction pooler breaks.
 * @returns null, or what does not work
 */
export async function inspectConnection(connectionString: string, waitMs = 2_000): Promise<string | null> {
  const config = clientConfig({ connectionString, applicationName: "embedd doctor" });
  const [ears, mouth] = [new pg.Client(config), new pg.Client(config)];
  for (const client of [ears, mouth]) client.on("error", () => undefined);
  await Promise.all([ears.connect(), mouth.connect()]);
  try {
    const channel = `embedd_doctor_${process.pid}_${Date.now()}`;
    const heard = new Promise<boolean>((resolve) => {
      ears.on("notification", (message) => {
        if (message.channel === channel) resolve(true);
      });
    });
    await ears.query(`listen ${channel}`);
    await mouth.query(`notify ${channel}`);
    const came = await Promise.race([heard, setTimeout(waitMs, false)]);
    if (!came) return "a notification that embedd sent to itself did not arrive";
    const pids = new Set<number>();
    for (let i = 0; i < 5; i++) {
      const { rows } = await ears.query<{ pid: number }>("select pg_backend_pid() as pid");
      pids.add(rows[0]?.pid ?? 0);
    }
    return pids.size > 1 ? "one connection is served by several server processes in turn" : null;
  } finally {
    await Promise.all([ears.end(), mouth.end()]);
  }
}
