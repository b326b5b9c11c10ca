import type { ClientBase, Pool } from "pg";
import type { Switch, SwitchIndex } from "./switch.js";
import { translateIndex } from "./translate-index.js";

interface CarriedRow {
  replaces: string;
  name: string;
  state: SwitchIndex["state"];
  /** For the old columns. */
  definition: string;
  tableOid: string;
  tablespace: string;
  /** Pairs of old and new: both columns, quoted, and the model as a literal. */
  names: [string, string][];
}

const selectCarried = `
select x.relname as replaces,
  next.name,
  t.oid::text as "tableOid",
  substr(pg_get_indexdef(x.oid), length(format('CREATE INDEX %I ON %s%I.%I ',
    x.relname, case t.relkind when 'p' then 'ONLY ' else '' end, n.nspname, t.relname)) + 1) as definition,
  coalesce((
    select case when ni.indisvalid then 'ready' when embedd.builds_index(s.id) then 'building' else 'failed' end
    from pg_index ni
    join pg_class nx on nx.oid = ni.indexrelid
    where ni.indrelid = t.oid
      and nx.relname = next.name), 'queued') as state,
  coalesce((select spcname from pg_tablespace where oid = x.reltablespace), '') as tablespace,
  jsonb_build_array(
    jsonb_build_array(quote_ident(p.embedding_column), quote_ident(s.embedding_column)),
    jsonb_build_array(quote_ident(p.model_column), quote_ident(s.model_column)),
    jsonb_build_array(quote_literal(p.model), quote_literal(s.model))) as names
from embedd.pipelines s
join embedd.pipelines p on p.id = s.shadow_of
cross join lateral embedd.table_tree(p.relation) r
join pg_class t on t.oid = r
join pg_namespace n on n.oid = t.relnamespace
join pg_index i on i.indrelid = r and i.indisvalid and not i.indisunique
join pg_class x on x.oid = i.indexrelid and not x.relispartition
cross join lateral (select format('embedd_next_%s', x.oid) as name) as next
where s.id = $1
  and x.relname not in (embedd.pending_index_name(p.id), embedd.vector_index_name(p.id))
  and exists (
    select
    from pg_depend d
    join pg_attribute a on a.attrelid = r and a.attnum = d.refobjsubid
    where d.classid = 'pg_class'::regclass
      and d.objid = x.oid
      and d.refclassid = 'pg_class'::regclass
      and d.refobjid = r
      and a.attname in (p.embedding_column, p.model_column))
order by x.relname`;

const selectOwn = `
select null as replaces,
  embedd.vector_index_name(p.id) as name,
  embedd.vector_index_state(p) as state,
  embedd.vector_index_definition(p) as definition,
  coalesce((
    select s.spcname
    from pg_index i
    join pg_class x on x.oid = i.indexrelid
    join pg_tablespace s on s.oid = x.reltablespace
    where i.indrelid = p.relation
      and x.relname = embedd.vector_index_name(p.shadow_of)), '') as tablespace,
  p.relation::oid::text as "tableOid"
from embedd.pipelines p
where p.id = $1
  and p.index_method is not null`;

/** Lists the indexes to build before the swap: one for each index on the old columns, and the pipeline's own. */
export async function switchIndexes(db: Pool | ClientBase, running: Switch): Promise<SwitchIndex[]> {
  const carried = await db.query<CarriedRow>(selectCarried, [running.shadow]);
  const own = await db.query<SwitchIndex>(selectOwn, [running.shadow]);
  const translated = carried.rows.map(({ names, definition, ...row }) => ({
    ...row,
    definition: translateIndex(definition, new Map(names), running.fromDimensions, running.toDimensions),
  }));
  return [...translated, ...own.rows];
}

/** Without statistics on the new model's name, searches for it are planned as if hardly any row had it. */
export async function analyzeNewColumns(client: ClientBase, { shadow, relation }: Switch): Promise<void> {
  const { rows } = await client.query<{ columns: string }>(
    `
select format('%I, %I', embedding_column, model_column) as columns
from embedd.pipelines
where id = $1`,
    [shadow],
  );
  await client.query(`analyze ${relation} (${rows[0]?.columns ?? ""})`);
}

/** Cancels a worker's index build, which blocks ALTER TABLE. */
export async function cancelIndexBuild(client: ClientBase, shadow: number): Promise<void> {
  await client.query(
    `
select pg_cancel_backend(pid)
from embedd.job_holder($1, 'index') as pid
where pid <> pg_backend_pid()`,
    [shadow],
  );
}
