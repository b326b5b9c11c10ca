import type { ClientBase } from "pg";
import { buildNamed, tablespaceOf } from "../database/build-index.sql.js";
import type { NamedIndex } from "../database/build-index.sql.js";
import type { WatchOptions } from "./watch.sql.js";

/** What the texts of a watched column are made of. */
export interface Definition {
  pipelineId: number;
  content: string[];
  template: string | null;
}

/** The definition of a watched column that still has all its columns; null: it is not watched. */
export async function findDefinition(
  client: ClientBase,
  { relation, embedding }: Pick<WatchOptions, "relation" | "embedding">,
): Promise<Definition | null> {
  await client.query(
    "select embedd.check_may_manage() where not has_table_privilege('embedd.pipelines', 'SELECT')",
  );
  const { rows } = await client.query<Definition>(
    `
select p.id as "pipelineId", p.content_columns as content, p.template
from embedd.pipelines p
where p.relation = embedd.resolve($1) and p.embedding_column = $2 and embedd.pipeline_is_whole(p)`,
    [relation, embedding],
  );
  return rows[0] ?? null;
}

/** Refuses content columns that do not exist, and vectors for which no choice was made. */
export async function checkRedefinition(
  client: ClientBase,
  { pipelineId }: Definition,
  { content, existing }: WatchOptions,
): Promise<void> {
  await client.query(
    `
select embedd.check_content_columns(p.relation, $2, array[p.embedding_column, p.model_column]),
  embedd.check_existing(p.relation, p.embedding_column, $3)
from embedd.pipelines p
where p.id = $1`,
    [pipelineId, content, existing],
  );
}

/**
 * Builds the index of the rows that will be pending with other content columns, CONCURRENTLY and next to the one in
 * use. One that an earlier attempt left is dropped, because it may be for other columns.
 */
export async function buildNextIndex(
  client: ClientBase,
  { pipelineId }: Definition,
  content: readonly string[],
): Promise<void> {
  await dropNextIndex(client, pipelineId);
  const { rows } = await client.query<NamedIndex>(
    `
select p.relation::oid::text as oid,
  embedd.pending_index_name(p.id) || '_next' as name,
  embedd.pending_index_definition(
    jsonb_populate_record(p, jsonb_build_object('content_columns', $2::text[]))) as definition,
  ${tablespaceOf("embedd.pending_index_name(p.id)")} as tablespace
from embedd.pipelines p
where p.id = $1`,
    [pipelineId, content],
  );
  const index = rows[0];
  if (index !== undefined) await buildNamed(client, index);
}

/** Gives the next index, and its partitions, the name of the one in use, which is dropped by then. */
export async function renameNextIndex(client: ClientBase, pipelineId: number): Promise<void> {
  const { rows } = await client.query<{ statement: string }>(
    `
select format('alter index %I.%I rename to %I', x.relnamespace::regnamespace::name, x.relname,
  replace(x.relname, '_pending_next', '_pending')) as statement
from (${NEXT_INDEX}) as next
cross join embedd.table_tree(next.oid::regclass) as part
join pg_class x on x.oid = part
-- Nothing finds the index of a partition by its name.
where not exists (
  select from pg_class other
  where other.relnamespace = x.relnamespace and other.relname = replace(x.relname, '_pending_next', '_pending'))`,
    [pipelineId],
  );
  for (const { statement } of rows) await client.query(statement);
}

/** Drops what was built for a definition that did not take effect. Runs outside a transaction. */
export async function dropNextIndex(client: ClientBase, pipelineId: number): Promise<void> {
  const { rows } = await client.query<{ statement: string }>(
    `
select format('drop index %s %I.%I', case x.relkind when 'i' then 'concurrently' end,
  x.relnamespace::regnamespace::name, x.relname) as statement
from (${NEXT_INDEX}) as next
join pg_class x on x.oid = next.oid`,
    [pipelineId],
  );
  for (const { statement } of rows) await client.query(statement);
}

const NEXT_INDEX = `
  select x.oid
  from embedd.pipelines p
  join pg_index i on i.indrelid = p.relation
  join pg_class x on x.oid = i.indexrelid
  where p.id = $1 and x.relname = embedd.pending_index_name(p.id) || '_next'`;
