import pg from "pg";
import type { Pool } from "pg";
import { messageOf } from "../errors.js";
import type { Logger } from "../logger.js";
import { buildIndex, vectorIndexState } from "../database/build-index.sql.js";
import type { Pipeline } from "../database/pipeline.js";
import { clientConfig } from "../database/pool.js";
import type { ConnectOptions } from "../database/pool.js";
import { cancelBackend, tryLockIndex } from "./vector-index.sql.js";

/** Builds the vector indexes that pipelines ask for: CONCURRENTLY, one at a time, while rows are embedded. */
export interface VectorIndexes {
  /** Called when a pipeline's backlog is done: builds its index unless it exists. */
  request(pipeline: Pipeline): void;
  /** Resolves when nothing is being built. */
  idle(): Promise<void>;
  /** Cancels a build that is running. */
  stop(): Promise<void>;
}

export function createVectorIndexes(
  pool: Pool,
  { log, ...connection }: ConnectOptions & { log: Logger },
): VectorIndexes {
  /** Pipelines whose index exists, or that this worker's role may not build. */
  const settled = new Set<number>();
  const queued = new Set<number>();
  let building: Promise<void> = Promise.resolve();
  let backend: number | null = null;
  let stopping = false;

  async function build(pipeline: Pipeline): Promise<void> {
    if ((await vectorIndexState(pool, pipeline.id)) === "ready") {
      settled.add(pipeline.id);
      return;
    }
    const client = new pg.Client(clientConfig(connection));
    client.on("error", () => undefined);
    await client.connect();
    try {
      // One worker builds; the others check again when they next fall asleep.
      const { pid, free } = await tryLockIndex(client, pipeline.id);
      if (!free || stopping) return;
      backend = pid;
      const started = performance.now();
      log.info({ pipeline: pipeline.id, relation: pipeline.relation }, "building the vector index");
      await buildIndex(client, pipeline.id, "vector");
      settled.add(pipeline.id);
      log.info(
        { pipeline: pipeline.id, seconds: Math.round((performance.now() - started) / 1000) },
        "built the vector index",
      );
    } finally {
      backend = null;
      await client.end();
    }
  }

  return {
    request(pipeline) {
      if (pipeline.indexMethod === null || stopping || settled.has(pipeline.id) || queued.has(pipeline.id))
        return;
      queued.add(pipeline.id);
      building = building
        .then(() => (stopping ? undefined : build(pipeline)))
        .catch((error: unknown) => {
          if (stopping) return;
          const owner = error instanceof pg.DatabaseError && error.code === "42501";
          // Another attempt fails too until the role's rights change.
          if (owner) settled.add(pipeline.id);
          log.warn(
            {
              pipeline: pipeline.id,
              cause: messageOf(error),
              ...(owner && { try: "embedd run --once, as the table's owner" }),
            },
            "could not build the vector index",
          );
        })
        .finally(() => queued.delete(pipeline.id));
    },
    idle: () => building,
    async stop() {
      stopping = true;
      if (backend !== null) await cancelBackend(pool, backend).catch(() => undefined);
      await building;
    },
  };
}
