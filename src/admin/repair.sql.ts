import type { ClientBase } from "pg";

export interface RepairOptions {
  /** The name that the table has or last had, as SQL writes it. */
  relation: string;
  /** Only this column's pipeline. @default all of the table */
  embedding?: string | undefined;
  /** What to do with vectors that may belong to earlier texts: trust them, or embed their rows again. */
  existing?: "keep" | "refresh" | undefined;
}

/** Restores triggers and privileges. @returns the pipelines */
export async function repairPipelines(
  client: ClientBase,
  { relation, embedding, existing }: RepairOptions,
): Promise<number[]> {
  const { rows } = await client.query<{ id: number }>("select embedd.repair($1, $2, $3) as id", [
    relation,
    embedding,
    existing,
  ]);
  return rows.map(({ id }) => id);
}

/** What a repair leaves as it was. */
export interface Remains {
  id: number;
  /** The table and its embedding column, for people. */
  column: string;
  /** Rows that are backing off or dead. */
  failed: number;
  /** Whether the vector index is invalid, and no session builds it. */
  invalidIndex: boolean;
}

/** Reads no watched table, so that nobody who holds one locked delays it. */
export async function readRemains(client: ClientBase, ids: readonly number[]): Promise<Remains[]> {
  const { rows } = await client.query<Remains>(
    `
select
  p.id,
  embedd.relation_text(p) || '.' || p.embedding_column as column,
  (
    select count(*)::integer
    from embedd.visible_failures() f
    where f.pipeline_id = p.id and f.code <> 'white_space') as failed,
  coalesce(embedd.vector_index_state(p) = 'failed', false) as "invalidIndex"
from embedd.pipelines p
where p.id = any ($1)
order by p.id`,
    [ids],
  );
  return rows;
}
