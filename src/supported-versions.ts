/** The oldest major version of PostgreSQL. */
export const MIN_POSTGRESQL = 15;

/** The oldest pgvector, [major, minor]: the first with halfvec. */
export const MIN_PGVECTOR = [0, 7] as const;
