import pg from "pg";
import type { ClientBase } from "pg";

/** What keeps a role from working on one pipeline; null or empty where nothing does. */
export interface PipelineInspection {
  id: number;
  /** As SQL names it; the OID of a table that is gone. */
  relation: string;
  embedding: string;
  /** Content columns that still exist. */
  content: string[];
  template: string | null;
  modelColumn: string;
  model: string | null;
  indexMethod: string | null;
  error: string | null;
  missingPrivileges: string[] | null;
  rowSecurity: boolean;
  missingTriggers: string[] | null;
  /** Disabled, or (before_update) not enabled for replicated changes. */
  disabledTriggers: string[] | null;
  pendingIndex: "ready" | "missing" | "invalid";
}

const selectPipelines = `
select p.id,
  p.relation::text as relation,
  p.embedding_column as embedding,
  array(
    select u.name
    from unnest(p.content_columns) with ordinality as u (name, position)
    join pg_attribute a on a.attrelid = p.relation and a.attname = u.name and not a.attisdropped
    order by u.position) as content,
  p.template,
  p.model_column as "modelColumn",
  p.model,
  p.index_method as "indexMethod",
  p.error,
  (select array_agg(distinct needed.privilege || ' on ' || coalesce(needed.columns, needed.kind || ' ' || needed.name))
    from embedd.pipeline_privileges(p) needed
    where not embedd.has_privilege(
      (select r.oid from pg_roles r where r.rolname = current_user),
      needed.kind, needed.object, needed.columns, needed.privilege)) as "missingPrivileges",
  embedd.hidden_rows(c.oid) is not null as "rowSecurity",
  triggers.missing as "missingTriggers",
  triggers.disabled as "disabledTriggers",
  coalesce((
    select case when i.indisvalid then 'ready' else 'invalid' end
    from pg_index i
    join pg_class x on x.oid = i.indexrelid
    where i.indrelid = p.relation
      and x.relname = embedd.pending_index_name(p.id)), 'missing') as "pendingIndex"
from embedd.pipelines p
left join pg_class c on c.oid = p.relation
cross join lateral (
  select array_agg(needed.event) filter (where c.oid is not null and t.oid is null) as missing,
    array_agg(needed.event) filter (
      where t.tgenabled <> 'A' and (t.tgenabled <> 'O' or needed.event = 'before_update')) as disabled
  from unnest(array['after_insert', 'before_update', 'after_update']) as needed (event)
  left join pg_trigger t on t.tgrelid = p.relation
    and t.tgname = format('zzz_embedd_%s__%s', p.id, needed.event)) as triggers
order by p.id`;

/** Inspects every pipeline with the current role's rights. Reads only catalogs. */
export async function inspectPipelines(client: ClientBase): Promise<PipelineInspection[]> {
  const { rows } = await client.query<PipelineInspection>(selectPipelines);
  return rows;
}

export interface ServerInspection {
  version: string;
  /** As in `server_version_num`: 150004 is 15.4. */
  versionNumber: number;
  /** The installed version; null: not installed in this database. */
  pgvector: string | null;
  migrated: boolean;
  /** What the role lacks to work with embedd's own objects and pgvector's. */
  missingPrivileges: string[];
  role: string;
  /** How many milliseconds the server's clock is ahead of this machine's. */
  clockAheadMs: number;
}

const selectServer = `
select current_setting('server_version') as version,
  current_setting('server_version_num')::int as "versionNumber",
  (select extversion from pg_extension where extname = 'vector') as pgvector,
  own.pipelines is not null as migrated,
  coalesce(has_schema_privilege(own.schema, 'USAGE'), false) as "schemaUsable",
  current_user::text as role,
  extract(epoch from clock_timestamp())::float8 * 1000 as ms
from (
  select n.oid as schema,
    max(c.oid) filter (where c.relname = 'pipelines') as pipelines
  from (select) as one
  left join pg_namespace n on n.nspname = 'embedd'
  left join pg_class c on c.relnamespace = n.oid
  group by n.oid) as own`;

export async function inspectServer(client: ClientBase): Promise<ServerInspection> {
  const before = Date.now();
  const { rows } = await client.query<ServerRow>(selectServer);
  const row = rows[0];
  if (row === undefined) throw new Error("the server returned no row");
  const { ms, schemaUsable, ...server } = row;
  const clockAheadMs = ms - (before + Date.now()) / 2;
  const missingPrivileges = !server.migrated
    ? []
    : schemaUsable
      ? await inspectPrivileges(client)
      : ["USAGE on schema embedd"];
  return { ...server, clockAheadMs, missingPrivileges };
}

type ServerRow = Omit<ServerInspection, "clockAheadMs" | "missingPrivileges"> & {
  ms: number;
  schemaUsable: boolean;
};

async function inspectPrivileges(client: ClientBase): Promise<string[]> {
  try {
    const { rows } = await client.query<{ missing: string }>(
      "select missing from embedd.missing_privileges('worker') as missing",
    );
    return rows.map(({ missing }) => missing);
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === "42501")
      return ["EXECUTE on functions of schema embedd"];
    throw error;
  }
}

/** The server process behind a connection. */
export async function backendPid(client: ClientBase): Promise<number> {
  const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
  return rows[0]?.pid ?? 0;
}
