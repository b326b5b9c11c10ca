import type { ClientBase, Pool } from "pg";

/** Lists all pipelines with the present or last names of their tables, quoted, as `schema.table`. */
export async function listWatched(db: Pool | ClientBase): Promise<{ id: number; relation: string }[]> {
  const { rows } = await db.query<{ id: number; relation: string }>(`
select p.id,
  coalesce(case when c.oid is not null then format('%I.%I', n.nspname, c.relname) end, embedd.relation_text(p)) as relation
from embedd.pipelines p
left join pg_class c on c.oid = p.relation
left join pg_namespace n on n.oid = c.relnamespace
order by p.id`);
  return rows;
}

/**
 * Lists a table's pipelines.
 * @param relation as SQL names it
 * @throws the schema's refusal with code `no_such_table` or `not_watched`
 */
export async function pipelinesNamed(db: Pool | ClientBase, relation: string): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>("select embedd.pipelines_of($1) as id", [relation]);
  return rows.map(({ id }) => id);
}
