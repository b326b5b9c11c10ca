import type { ClientBase } from "pg";

export interface WatchOptions {
  /** As SQL names it. */
  relation: string;
  /** The columns that hold the text, in order. */
  content: string[];
  embedding: string;
  /** The only model that may serve it. @default any */
  model?: string | undefined;
  /** @default the embedding column's name and `_model` */
  modelColumn?: string | undefined;
  template?: string | undefined;
  /** A worker builds it once there are no pending rows. @default none */
  index?: "hnsw" | undefined;
  /** Adds missing embedding and model columns, for vectors of this many dimensions. */
  createColumns?: number | undefined;
  /**
   * What becomes of vectors that are there already: `keep` trusts them, `refresh` embeds their rows again. Required
   * where there are any.
   */
  existing?: "keep" | "refresh" | undefined;
}

/** Whether the table has no such column yet. */
export async function lacksColumn(
  client: ClientBase,
  { relation, embedding }: WatchOptions,
): Promise<boolean> {
  const { rowCount } = await client.query(
    `
select
from pg_attribute
where attrelid = embedd.resolve($1) and attname = $2 and not attisdropped`,
    [relation, embedding],
  );
  return rowCount === 0;
}

/** The type of a vector column; undefined: there is no such column, or it holds no vectors. */
export async function readVectorType(
  client: ClientBase,
  { relation, embedding }: Pick<WatchOptions, "relation" | "embedding">,
): Promise<{ type: string; dimensions: number } | undefined> {
  const { rows } = await client.query<{ type: string; dimensions: number }>(
    `
select embedd.type_name(a.atttypid, a.atttypmod) as type,
  a.atttypmod as dimensions
from pg_attribute a
join pg_type t on t.oid = a.atttypid
where a.attrelid = embedd.resolve($1)
  and a.attname = $2
  and not a.attisdropped
  and t.typname in ('vector', 'halfvec')`,
    [relation, embedding],
  );
  return rows[0];
}

/** Adds the embedding and model columns where they are missing. */
export async function addColumns(
  client: ClientBase,
  { relation, embedding, modelColumn }: WatchOptions,
  dimensions: number,
): Promise<void> {
  await client.query("select embedd.add_columns($1, $2, $3, $4)", [
    relation,
    embedding,
    modelColumn,
    dimensions,
  ]);
}

/** Creates a pipeline and its triggers, or changes its definition, without an index of pending rows. @returns its id */
export async function createPipeline(client: ClientBase, options: WatchOptions): Promise<number> {
  const { relation, content, embedding, modelColumn, template, model, index, existing } = options;
  const { rows } = await client.query<{ id: number }>(
    `
select embedd.watch($1, $2,
  embedding_column => $3,
  model_column => $4,
  template => $5,
  model => $6,
  index_method => $7,
  create_index => false,
  existing => $8) as id`,
    [relation, content, embedding, modelColumn, template, model, index, existing],
  );
  return rows[0]?.id ?? 0;
}

/** Drops a table's pipelines and their triggers, indexes and grants. @returns how many */
export async function dropPipelines(
  client: ClientBase,
  relation: string,
  { embedding, dropColumns }: { embedding: string | undefined; dropColumns: boolean },
): Promise<number> {
  const { rows } = await client.query<{ count: number }>("select embedd.unwatch($1, $2, $3) as count", [
    relation,
    embedding,
    dropColumns,
  ]);
  return rows[0]?.count ?? 0;
}

/** A pipeline's table: as SQL finds it (its OID if it is gone), and by its last name. */
export async function findPipeline(
  client: ClientBase,
  id: number,
): Promise<{ name: string; relation: string; embedding: string } | undefined> {
  const { rows } = await client.query<{ name: string; relation: string; embedding: string }>(
    `select embedd.name_of(p.relation) as name, embedd.relation_text(p) as relation, p.embedding_column as embedding
     from embedd.pipelines p
     where p.id = $1`,
    [id],
  );
  return rows[0];
}
