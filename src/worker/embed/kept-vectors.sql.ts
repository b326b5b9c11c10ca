import type { Pool, QueryConfig, QueryResult, QueryResultRow } from "pg";
import type { Pipeline } from "../../database/pipeline.js";
import { vectorArrayToBinary, vectorFromBinary } from "../../database/vector-array.js";

/** Vectors compare only within one model and one number of dimensions. */
export interface VectorSpace {
  model: string;
  dimensions: number;
}

export interface KeptVector {
  /** SHA-256 of the text as the model is given it, in hexadecimal. */
  hash: string;
  embedding: Float32Array;
}

/** Nobody waits longer than this for what is only a saving, such as behind a lock on the table. */
const TIMEOUT_MS = 5_000;

/** A row's hash, header and index entries and what is left free on its page, beside the vector: measured. */
export const ROW_OVERHEAD_BYTES = 600;
const rowBytes = `pg_column_size(embedding) + ${ROW_OVERHEAD_BYTES}`;

function run<R extends QueryResultRow>(pool: Pool, text: string, values: unknown[]): Promise<QueryResult<R>> {
  const query: QueryConfig & { query_timeout: number } = { text, values, query_timeout: TIMEOUT_MS };
  return pool.query<R>(query);
}

const bytea = (hashes: readonly string[]): string[] => hashes.map((hash) => `\\x${hash}`);

/** @returns those that are kept; and of these the hashes whose time of use is more than a day old */
export async function findKept(
  pool: Pool,
  { vectorSchema }: Pipeline,
  { model, dimensions }: VectorSpace,
  hashes: readonly string[],
): Promise<{ vectors: Map<string, Float32Array>; aged: string[] }> {
  const { rows } = await run<{ place: number; embedding: Buffer; aged: boolean }>(
    pool,
    `
select u.place::integer as place, ${vectorSchema}.vector_send(v.embedding) as embedding,
  v.used_at < now() - interval '1 day' as aged
from unnest($1::bytea[]) with ordinality as u (hash, place)
join embedd.vectors v on v.text_hash = u.hash and v.model = $2 and v.dimensions = $3`,
    [bytea(hashes), model, dimensions],
  );
  const at = ({ place }: { place: number }) => hashes[place - 1] ?? "";
  return {
    vectors: new Map(rows.map((row) => [at(row), vectorFromBinary(row.embedding)])),
    aged: rows.filter((row) => row.aged).map(at),
  };
}

/** Notes that kept vectors were used today. */
export async function touchKept(
  pool: Pool,
  { model, dimensions }: VectorSpace,
  hashes: readonly string[],
): Promise<void> {
  await run(
    pool,
    `
update embedd.vectors v set used_at = now()
from (
  select text_hash from embedd.vectors
  where text_hash = any ($1::bytea[]) and model = $2 and dimensions = $3 for no key update skip locked
) as used
where v.text_hash = used.text_hash and v.model = $2 and v.dimensions = $3`,
    [bytea(hashes), model, dimensions],
  );
}

/** @param vectors in the order of their hashes, so that two workers never wait for each other in a circle */
export async function keepVectors(
  pool: Pool,
  { vectorType, vectorOid }: Pipeline,
  { model, dimensions }: VectorSpace,
  vectors: readonly KeptVector[],
): Promise<void> {
  await run(
    pool,
    `
insert into embedd.vectors (text_hash, model, dimensions, embedding)
select u.hash, $2, $3, u.embedding from unnest($1::bytea[], $4::${vectorType}[]) as u (hash, embedding)
on conflict do nothing`,
    [
      bytea(vectors.map(({ hash }) => hash)),
      model,
      dimensions,
      vectorArrayToBinary(
        vectors.map(({ embedding }) => embedding),
        vectorOid,
      ),
    ],
  );
}

/** Pages that are read to tell living rows from the space that deleted ones have left. */
const SAMPLE_PAGES = 1_000;

/**
 * By how many bytes the kept vectors exceed a size. Their files never shrink, so what lives is estimated from
 * a sample of pages; the server's own counts begin at zero when its statistics are reset.
 */
export async function excessBytes(pool: Pool, maxBytes: number): Promise<number> {
  const { rows } = await run<{ total: number; pages: number }>(
    pool,
    `select pg_total_relation_size('embedd.vectors')::float8 as total,
       (pg_relation_size('embedd.vectors') / current_setting('block_size')::integer)::float8 as pages`,
    [],
  );
  const { total, pages } = rows[0] ?? { total: 0, pages: 0 };
  if (total <= maxBytes) return 0;
  const percent = Math.min(100, (100 * SAMPLE_PAGES) / Math.max(pages, 1));
  const sample = await run<{ bytes: number }>(
    pool,
    `select coalesce(sum(${rowBytes}), 0)::float8 as bytes from embedd.vectors tablesample system ($1::real)`,
    [percent],
  );
  return Math.max((sample.rows[0]?.bytes ?? 0) * (100 / percent) - maxBytes, 0);
}

/** Drops the least recently used, about so many bytes of them. */
export async function dropLeastUsed(pool: Pool, bytes: number): Promise<void> {
  await run(
    pool,
    `
with oldest as (
  select text_hash, model, dimensions, sum(bytes) over (order by used_at, text_hash) - bytes as before
  from (
    select text_hash, model, dimensions, used_at, ${rowBytes} as bytes
    from embedd.vectors order by used_at limit ceil($1::float8 / ${ROW_OVERHEAD_BYTES})
  ) as by_use
), locked as (
  select v.text_hash, v.model, v.dimensions
  from embedd.vectors v join oldest o using (text_hash, model, dimensions)
  where o.before < $1::float8 for update of v skip locked
)
delete from embedd.vectors v using locked l
where v.text_hash = l.text_hash and v.model = l.model and v.dimensions = l.dimensions`,
    [bytes],
  );
}
