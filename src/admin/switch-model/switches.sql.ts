import type { ClientBase, Pool } from "pg";
import { callSchema } from "../../database/call-schema.js";
import type { Switch } from "./switch.js";

const selectSwitches = `
select s.id as shadow,
  p.id as pipeline,
  format('%I.%I', n.nspname, c.relname) as relation,
  p.embedding_column as embedding,
  p.model_column as "modelColumn",
  s.embedding_column as "nextEmbedding",
  s.model_column as "nextModelColumn",
  p.model as "fromModel",
  coalesce(pa.atttypmod, 0) as "fromDimensions",
  s.model as "toModel",
  coalesce(sa.atttypmod, 0) as "toDimensions",
  s.index_method as "indexMethod",
  embedd.pipeline_is_whole(p) and embedd.pipeline_is_whole(s) as whole,
  s.model_before is not null as pinned,
  s.created_at as "startedAt",
  embedd.is_served(s.id) as served,
  embedd.is_served(p.id) as "oldServed",
  s.error
from embedd.pipelines s
join embedd.pipelines p on p.id = s.shadow_of
join pg_class c on c.oid = p.relation
join pg_namespace n on n.oid = c.relnamespace
left join pg_attribute pa on pa.attrelid = c.oid and pa.attname = p.embedding_column
left join pg_attribute sa on sa.attrelid = c.oid and sa.attname = s.embedding_column
where ($1::text is null or p.relation = embedd.resolve_watched($1))
  and ($2::text is null or p.embedding_column = $2)
order by s.id`;

/** Lists running switches: all, those of one table, or the one of one column. */
export async function readSwitches(
  db: Pool | ClientBase,
  { relation, embedding }: { relation?: string | undefined; embedding?: string | undefined } = {},
): Promise<Switch[]> {
  const { rows } = await callSchema(() => db.query<Switch>(selectSwitches, [relation, embedding]));
  return rows;
}

export interface SwitchTarget {
  relation: string;
  embedding: string;
  model: string;
  dimensions: number;
  indexMethod: string | null;
  dropOld: boolean;
}

/** Adds the new columns and the shadow pipeline that fills them. */
export async function createShadow(client: ClientBase, target: SwitchTarget): Promise<void> {
  const { relation, embedding, model, dimensions, indexMethod, dropOld } = target;
  await client.query("select embedd.begin_switch($1, $2, $3, $4, $5, $6)", [
    relation,
    embedding,
    model,
    dimensions,
    indexMethod,
    dropOld,
  ]);
}

/** The columns before a switch: the table's quoted name and the method of the pipeline's own index. */
export async function readColumns(
  client: ClientBase,
  { relation, embedding }: { relation: string; embedding: string },
): Promise<{ relation: string; indexMethod: string | null } | undefined> {
  const { rows } = await client.query<{ relation: string; indexMethod: string | null }>(
    `
select format('%I.%I', n.nspname, c.relname) as relation,
  p.index_method as "indexMethod"
from embedd.pipelines p
join pg_class c on c.oid = p.relation
join pg_namespace n on n.oid = c.relnamespace
where p.relation = embedd.resolve_watched($1)
  and p.embedding_column = $2`,
    [relation, embedding],
  );
  return rows[0];
}

/** The names, quoted, that the swap gives to the old columns. */
export async function previousNames(client: ClientBase, columns: readonly string[]): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `
select quote_ident(embedd.with_suffix(name, '_previous')) as name
from unnest($1::text[]) with ordinality as columns (name, position)
order by position`,
    [columns],
  );
  return rows.map(({ name }) => name);
}

/** Gives the old columns' names, indexes and privileges to the new ones. Needs the table's exclusive lock. */
export async function swapColumns(
  client: ClientBase,
  shadow: number,
  { maxBehind, force, dropOld }: { maxBehind: number; force: boolean; dropOld: boolean },
): Promise<void> {
  await client.query("select embedd.finish_switch($1, $2, $3, $4)", [shadow, maxBehind, force, dropOld]);
}

/** Drops what a switch added. Needs the table's exclusive lock. */
export async function dropShadow(client: ClientBase, shadow: number): Promise<void> {
  await client.query("select embedd.abort_switch($1)", [shadow]);
}
