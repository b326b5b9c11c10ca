import type { ClientBase, Pool } from "pg";
import { callSchema } from "../../database/call-schema.js";

/** A switch to another model that is under way. Names are as the catalog has them, unless said. */
export interface Switch {
  /** The pipeline that fills the new columns, and the one whose columns they are to replace. */
  shadow: number;
  pipeline: number;
  /** `schema.table`, quoted. */
  relation: string;
  embedding: string;
  modelColumn: string;
  nextEmbedding: string;
  nextModelColumn: string;
  fromModel: string;
  fromDimensions: number;
  toModel: string;
  toDimensions: number;
  indexMethod: string | null;
  /** False: somebody dropped a column that it needs, and it can only be aborted; a dimension may be 0. */
  whole: boolean;
  /** Whether the column will be pinned to its model afterwards, as it was before. */
  pinned: boolean;
  startedAt: Date;
  /** Whether a worker of the new model is connected and serves it; and of the old. */
  served: boolean;
  oldServed: boolean;
  /** Why no worker can fill it. */
  error: string | null;
}

/** All switches under way, or those of one table, or the one of one column. */
export async function readSwitches(
  db: Pool | ClientBase,
  { relation, embedding }: { relation?: string | undefined; embedding?: string | undefined } = {},
): Promise<Switch[]> {
  const { rows } = await callSchema(() =>
    db.query<Switch>(
      `select s.id as shadow, p.id as pipeline, format('%I.%I', n.nspname, c.relname) as relation,
         p.embedding_column as embedding, p.model_column as "modelColumn",
         s.embedding_column as "nextEmbedding", s.model_column as "nextModelColumn",
         p.model as "fromModel", coalesce(pa.atttypmod, 0) as "fromDimensions", s.model as "toModel", coalesce(sa.atttypmod, 0) as "toDimensions",
         embedd.pipeline_is_whole(p) and embedd.pipeline_is_whole(s) as whole,
         s.index_method as "indexMethod", s.model_before is not null as pinned, s.created_at as "startedAt",
         embedd.is_served(s.id) as served, embedd.is_served(p.id) as "oldServed", s.error
       from embedd.pipelines s join embedd.pipelines p on p.id = s.shadow_of
       join pg_class c on c.oid = p.relation join pg_namespace n on n.oid = c.relnamespace
       left join pg_attribute pa on pa.attrelid = c.oid and pa.attname = p.embedding_column
       left join pg_attribute sa on sa.attrelid = c.oid and sa.attname = s.embedding_column
       where ($1::text is null or p.relation = embedd.resolve($1)) and ($2::text is null or p.embedding_column = $2)
       order by s.id`,
      [relation, embedding],
    ),
  );
  return rows;
}

/** Counts of rows. */
export interface SwitchCounts {
  /** Without a new vector. */
  pending: number;
  /** Of those, with an old one, which a swap would take away. */
  behind: number;
  /** Of those, given up after their last attempt. */
  dead: number;
}

export async function countBehind(db: Pool | ClientBase, shadow: number): Promise<SwitchCounts> {
  const { rows } = await db.query<SwitchCounts>(
    `select pending::float8 as pending, behind::float8 as behind, dead::float8 as dead from embedd.count_behind($1)`,
    [shadow],
  );
  return rows[0] ?? { pending: 0, behind: 0, dead: 0 };
}

/** With more pending rows than this the swap would hold its lock for too long, and is refused. */
export async function mostPending(db: Pool | ClientBase, shadow: number, maxBehind: number): Promise<number> {
  const { rows } = await db.query<{ most: number }>("select embedd.most_pending($1, $2)::float8 as most", [
    shadow,
    maxBehind,
  ]);
  return rows[0]?.most ?? 0;
}

/** How many rows have a text. Reads the whole table. */
export async function countTexts(db: Pool | ClientBase, shadow: number): Promise<number> {
  const { rows } = await db.query<{ texts: number }>(
    `select (counts.pending + counts.done)::float8 as texts
     from embedd.pipelines p cross join lateral embedd.count_rows(p) as counts where p.id = $1`,
    [shadow],
  );
  return rows[0]?.texts ?? 0;
}

/** Keys of dead rows, as `embedd failures` shows them. */
export async function deadKeys(db: Pool | ClientBase, shadow: number, limit: number): Promise<string[]> {
  const { rows } = await db.query<{ key: string }>(
    "select key from embedd.failures where pipeline_id = $1 and dead order by key limit $2",
    [shadow, limit],
  );
  return rows.map(({ key }) => key);
}
