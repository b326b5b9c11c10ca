import type { Pool } from "pg";
import type { Pipeline } from "../../database/pipeline.js";

export interface NamedFunction {
  /** As SQL names it. */
  name: string;
  /** The triggers of the table, or of a partition, that call it; null: none. */
  triggers: string | null;
}

/** Of names that an error's context gave, those that are functions, each with the table's triggers that call it. */
export async function findFunctions(
  pool: Pool,
  { relationOid }: Pipeline,
  names: readonly string[],
): Promise<NamedFunction[]> {
  const { rows } = await pool.query<NamedFunction>(
    `
select named.name,
  (
    select string_agg(distinct quote_ident(t.tgname), ', ')
    from (select $2::oid as relid union select relid from pg_partition_tree($2::oid::regclass)) part
    join pg_trigger t on t.tgrelid = part.relid
    where t.tgfoid = named.routine
  ) as triggers
from unnest($1::text[]) with ordinality as u (name, position)
cross join lateral embedd.routine_named(u.name) as named
where named.routine is not null
order by u.position`,
    [names, relationOid],
  );
  return rows;
}
