import type { Pool, QueryConfig, QueryResult, QueryResultRow } from "pg";
import type { Pipeline } from "../../database/pipeline.js";
import { vectorArrayToBinary, vectorFromBinary } from "../../database/vector-array.js";

/** Vectors are comparable only within one model and one number of dimensions. */
export interface VectorSpace {
  model: string;
  dimensions: number;
}

export interface CachedVector {
  /** SHA-256 of how the model reads the text, and of the text, in hexadecimal. */
  hash: string;
  embedding: Float32Array;
}

/** The cache only saves computing, so a worker gives up on it after this long, such as behind a table lock. */
const TIMEOUT_MS = 5_000;

/** Measured: a row's hash, header, index entries and the free space on its page, in addition to the vector. */
export const ROW_OVERHEAD_BYTES = 600;
const rowBytes = `pg_column_size(embedding) + ${ROW_OVERHEAD_BYTES}`;

function run<R extends QueryResultRow>(pool: Pool, text: string, values: unknown[]): Promise<QueryResult<R>> {
  const query: QueryConfig & { query_timeout: number } = { text, values, query_timeout: TIMEOUT_MS };
  return pool.query<R>(query);
}

const bytea = (hashes: readonly string[]): string[] => hashes.map((hash) => `\\x${hash}`);

/** @returns the cached vectors by hash, and the hashes of those last used more than a day ago */
export async function findCached(
  pool: Pool,
  { vectorSchema, ownerOid }: Pipeline,
  { model, dimensions }: VectorSpace,
  hashes: readonly string[],
): Promise<{ vectors: Map<string, Float32Array>; aged: string[] }> {
  const { rows } = await run<{ position: number; embedding: Buffer; aged: boolean }>(
    pool,
    `
select u.position::integer as position, ${vectorSchema}.vector_send(v.embedding) as embedding,
  v.used_at < now() - interval '1 day' as aged
from unnest($1::bytea[]) with ordinality as u (hash, position)
join embedd.vectors v on v.text_hash = u.hash and v.model = $2 and v.dimensions = $3 and v.owner = $4`,
    [bytea(hashes), model, dimensions, ownerOid],
  );
  const hashOf = ({ position }: { position: number }) => hashes[position - 1] ?? "";
  return {
    vectors: new Map(rows.map((row) => [hashOf(row), vectorFromBinary(row.embedding)])),
    aged: rows.filter((row) => row.aged).map(hashOf),
  };
}

/** Records that cached vectors were used today. */
export async function touchCached(
  pool: Pool,
  { ownerOid }: Pipeline,
  { model, dimensions }: VectorSpace,
  hashes: readonly string[],
): Promise<void> {
  await run(
    pool,
    `
update embedd.vectors v set used_at = now()
from (
  select text_hash
  from embedd.vectors
  where text_hash = any ($1::bytea[]) and model = $2 and dimensions = $3 and owner = $4
  for no key update skip locked
) as used
where v.text_hash = used.text_hash and v.model = $2 and v.dimensions = $3 and v.owner = $4`,
    [bytea(hashes), model, dimensions, ownerOid],
  );
}

/** @param vectors sorted by hash, so that two workers never deadlock */
export async function cacheVectors(
  pool: Pool,
  { vectorType, vectorOid, ownerOid }: Pipeline,
  { model, dimensions }: VectorSpace,
  vectors: readonly CachedVector[],
): Promise<void> {
  await run(
    pool,
    `
insert into embedd.vectors (owner, text_hash, model, dimensions, embedding)
select $5, u.hash, $2, $3, u.embedding
from unnest($1::bytea[], $4::${vectorType}[]) as u (hash, embedding)
on conflict do nothing`,
    [
      bytea(vectors.map(({ hash }) => hash)),
      model,
      dimensions,
      vectorArrayToBinary(
        vectors.map(({ embedding }) => embedding),
        vectorOid,
      ),
      ownerOid,
    ],
  );
}

/** Pages read to tell live rows from the space of deleted ones. */
const SAMPLE_PAGES = 1_000;

/**
 * By how many bytes the cache exceeds a size. Its files never shrink, so the size of the live rows is estimated
 * from a sample of pages; the server's own counts restart at zero when its statistics are reset.
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

/** Deletes the least recently used vectors, about `bytes` of them. */
export async function evictLeastUsed(pool: Pool, bytes: number): Promise<void> {
  await run(
    pool,
    `
with oldest as (
  select owner, text_hash, model, dimensions, sum(bytes) over (order by used_at, text_hash) - bytes as before
  from (
    select owner, text_hash, model, dimensions, used_at, ${rowBytes} as bytes
    from embedd.vectors
    order by used_at
    limit ceil($1::float8 / ${ROW_OVERHEAD_BYTES})
  ) as by_use
),
locked as (
  select v.owner, v.text_hash, v.model, v.dimensions
  from embedd.vectors v
  join oldest o using (owner, text_hash, model, dimensions)
  where o.before < $1::float8
  for update of v skip locked
)
delete from embedd.vectors v
using locked l
where v.owner = l.owner and v.text_hash = l.text_hash and v.model = l.model and v.dimensions = l.dimensions`,
    [bytes],
  );
}
