import type { ClientBase, Pool } from "pg";
import type { Pipeline } from "./pipeline.js";

/** A pipeline that cannot be served as it stands, for example because a column or its table is gone. */
export interface BrokenPipeline {
  id: number;
  relation: string;
  reason: string;
  /** Only this role cannot serve it, because the table's owner would gain rights by code. */
  codeRisk: boolean;
  /** What embedd.status says now. */
  error: string | null;
}

// Every name in the result was quoted by the catalog. embedd.pipelines supplies names, ids and settings only.
const statement = `
select
  p.id,
  coalesce(
    case when c.oid is not null then format('%I.%I', n.nspname, c.relname) end,
    embedd.relation_text(p)) as relation,
  c.oid::bigint::float8 as "relationOid",
  c.relowner::bigint::float8 as "ownerOid",
  c.relkind <> 'p' and has_column_privilege(c.oid, 'ctid', 'SELECT') as "ctidReadable",
  has_column_privilege(c.oid, 'ctid', 'SELECT') and has_column_privilege(c.oid, 'xmin', 'SELECT')
    as "versionReadable",
  p.template,
  p.model,
  p.paused,
  n.nspname = 'embedd' and pg_relation_size(c.oid) = 0 as unused,
  p.error,
  p.gap,
  found.gap as "gapNow",
  embedd.repairable_problem(p, coalesce(found.gap, p.gap)) as problem,
  p.reembed,
  p.refresh_started_at::text as "refreshStartedAt",
  p.index_method as "indexMethod",
  p.shadow_of as "shadowOf",
  p.served_model as "servedModel",
  p.served_by as "servedBy",
  embedd.is_served(p.id) as served,
  p.content_columns as "contentNames",
  (
    select array_agg(quote_ident(name) order by ord)
    from unnest(p.content_columns) with ordinality u (name, ord)
  ) as content,
  (
    select array_agg(embedd.size_of(a.atttypid, 't.' || quote_ident(name)) order by ord)
    from unnest(p.content_columns) with ordinality u (name, ord)
    join pg_attribute a on a.attrelid = p.relation and a.attname = name and not a.attisdropped
  ) as "contentBytes",
  quote_ident(p.embedding_column) as embedding,
  quote_ident(p.model_column) as "modelColumn",
  format_type(e.atttypid, e.atttypmod) as "embeddingType",
  e.atttypmod as dimensions,
  format_type(v.oid, null) as "vectorType",
  v.oid::bigint::float8 as "vectorOid",
  quote_ident(v.nspname) as "vectorSchema",
  embedd.pending_predicate(p.relation, p.content_columns, p.embedding_column) as pending,
  '(' || embedd.text_predicate(p.relation, p.content_columns) || ')' as "hasText",
  (
    select jsonb_agg(jsonb_build_object(
      'column', quote_ident(k.name),
      -- Claims have no search path, so a type outside pg_catalog is named with its schema.
      'type', case
        when ty.typnamespace = 'pg_catalog'::regnamespace then format_type(ty.oid, -1)
        else format('%I.%I', tn.nspname, ty.typname)
      end,
      'bytes', getdatabaseencoding() = 'SQL_ASCII' and embedd.size_of(ty.oid, '') like 'octet%',
      'equals', format('operator(%I.=)', coalesce((
        select opn.nspname
        from embedd.key_operators(embedd.key_index(p.relation, p.key_columns)) ko
        join pg_operator o on o.oid = ko.operator
        join pg_namespace opn on opn.oid = o.oprnamespace
        where ko.attnum = a.attnum), 'pg_catalog'))
    ) order by k.ord)
    from unnest(p.key_columns) with ordinality k (name, ord)
    join pg_attribute a on a.attrelid = p.relation and a.attname = k.name and not a.attisdropped
    join pg_type ty on ty.oid = (
      with recursive below (oid, base) as (
        select d.oid, d.typbasetype from pg_type d where d.oid = a.atttypid
        union all
        select d.oid, d.typbasetype from pg_type d join below b on d.oid = b.base)
      select b.oid from below b where b.base = 0)
    join pg_namespace tn on tn.oid = ty.typnamespace
  ) as keys,
  case
    when found.problem is not null then found.problem
    when not has_schema_privilege(n.oid, 'USAGE') then format(
      'role %I may not use schema %I, where the table is now; embedd grant %s',
      current_user, n.nspname, embedd.shell_word(current_user::text))
    else coalesce(risk.what || '; ' || risk.cure, embedd.shape_problem(p), embedd.hidden_rows(c.oid))
  end as broken,
  risk.what is not null as "codeRisk"
from embedd.pipelines p
left join pg_class c on c.oid = p.relation
left join pg_namespace n on n.oid = c.relnamespace
left join pg_attribute e
  on e.attrelid = p.relation and e.attname = p.embedding_column and not e.attisdropped
cross join lateral (
  select t.oid, vn.nspname
  from pg_type t
  join pg_extension x on x.extnamespace = t.typnamespace
  join pg_namespace vn on vn.oid = t.typnamespace
  where x.extname = 'vector' and t.typname = 'vector'
) v
-- OFFSET keeps them from being called for each use.
cross join lateral (
  select embedd.find_gap(p) as gap, embedd.table_problem(p) as problem
  offset 0
) found
left join lateral embedd.code_risk(c.oid) as risk on true
where coalesce(p.id = any ((select embedd.scoped_pipelines())::integer[]), true)
order by p.id`;

/**
 * Follows tables and columns that were renamed, and owners that changed, before the pipelines are read.
 * @returns the pipelines whose names changed
 */
export async function followNames(db: Pool | ClientBase): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>("select embedd.follow_names() as id");
  await db.query("select embedd.set_row_security()");
  return rows.map(({ id }) => id);
}

/** Remembers, until somebody repairs it, that a pipeline's vectors may be outdated. */
export async function recordGap(db: Pool | ClientBase, id: number, gap: string): Promise<void> {
  await db.query("update embedd.pipelines set gap = $2 where id = $1 and gap is null", [id, gap]);
}

/** Reads all pipelines, or those of a role that works for one owner, with the current shape of their tables. */
export async function loadPipelines(
  db: Pool | ClientBase,
): Promise<{ pipelines: Pipeline[]; broken: BrokenPipeline[] }> {
  const { rows } = await db.query<Pipeline & { broken: string | null; codeRisk: boolean }>(statement);
  const pipelines: Pipeline[] = [];
  const broken: BrokenPipeline[] = [];
  for (const { broken: reason, codeRisk, error, ...pipeline } of rows) {
    if (reason === null) pipelines.push({ ...pipeline, error });
    else broken.push({ id: pipeline.id, relation: pipeline.relation, reason, codeRisk, error });
  }
  return { pipelines, broken };
}
