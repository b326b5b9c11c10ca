import pg from "pg";
import type { ClientBase, Pool } from "pg";
import type { IndexState } from "../database/build-index.sql.js";

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
  /** The table is gone, was replaced or moved; what to type stands after the semicolon. */
  tableProblem: string | null;
  /** Why vectors may belong to earlier texts. */
  gap: string | null;
  /** What a repair cures without a question. */
  flaw: string | null;
  /** Of the present role and the workers' roles, those that may not use the table's schema. */
  rolesWithoutSchema: string[] | null;
  /** As SQL names it; null: the table is gone. */
  schema: string | null;
  pendingIndex: "ready" | "missing" | "invalid";
  vectorIndex: IndexState | null;
}

const selectPipelines = `
select p.id,
  embedd.relation_text(p) as relation,
  embedd.table_problem(p) as "tableProblem",
  coalesce(p.gap, embedd.find_gap(p)) as gap,
  embedd.find_flaw(p) as flaw,
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
  (
    select array_agg(r.rolname::text order by r.rolname)
    from (select current_user::regrole as role union select embedd.worker_roles_for(p.relation)) as w
    join pg_roles r on r.oid = w.role
    where not has_schema_privilege(r.oid, c.relnamespace, 'USAGE')) as "rolesWithoutSchema",
  c.relnamespace::regnamespace::text as schema,
  coalesce((
    select case when i.indisvalid then 'ready' else 'invalid' end
    from pg_index i
    join pg_class x on x.oid = i.indexrelid
    where i.indrelid = p.relation
      and x.relname = embedd.pending_index_name(p.id)), 'missing') as "pendingIndex",
  embedd.vector_index_state(p) as "vectorIndex"
from embedd.pipelines p
left join pg_class c on c.oid = p.relation
where coalesce(p.id = any ((select embedd.scoped_pipelines())::integer[]), true)
order by p.id`;

/** Inspects every pipeline that the current role may serve. Reads only catalogs. */
export async function inspectPipelines(client: ClientBase): Promise<PipelineInspection[]> {
  const { rows } = await client.query<PipelineInspection>(selectPipelines);
  return rows;
}

/** Lists tables, as SQL names them, that have triggers of embedd without a pipeline. */
export async function tablesWithStrays(db: Pool | ClientBase): Promise<string[]> {
  const { rows } = await db.query<{ relation: string }>(
    "select distinct embedd.name_of(relation) as relation from embedd.stray_triggers() order by 1",
  );
  return rows.map(({ relation }) => relation);
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
