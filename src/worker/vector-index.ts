import pg from "pg";
import type { Pool } from "pg";
import { EmbeddError, messageOf } from "../errors.js";
import type { Logger } from "../logger.js";
import { buildIndex, vectorIndexState } from "../database/build-index.sql.js";
import { backendPid } from "../database/inspect-connection.js";
import type { Pipeline } from "../database/pipeline.js";
import { withoutTimeLimits } from "../database/maintenance.sql.js";
import { clientConfig, fixedSearchPath } from "../database/pool.js";
import type { ConnectOptions } from "../database/pool.js";
import { takeJob } from "../database/turns.sql.js";
import { cancelBackend } from "./vector-index.sql.js";

/**
 * Builds the vector indexes that pipelines ask for: CONCURRENTLY, one at a time, while rows are embedded. A build that
 * failed is tried again with growing delays; what it left is dropped first.
 */
export interface VectorIndexes {
  /** Called when a pipeline's backlog is done: builds its index unless it exists. */
  request(pipeline: Pipeline): void;
  /** Resolves when nothing is being built. */
  idle(): Promise<void>;
  /** Cancels a build that is running. */
  stop(): Promise<void>;
}

/** A build costs the server far more than a claim. The next attempt is made when the pipeline next falls asleep. */
const FIRST_RETRY_MS = 10_000;
const LAST_RETRY_MS = 3_600_000;

export function createVectorIndexes(
  pool: Pool,
  { log, ...connection }: ConnectOptions & { log: Logger },
): VectorIndexes {
  /** Pipelines whose index exists, or that this worker's role may not build. */
  const settled = new Set<number>();
  const queued = new Set<number>();
  const failures = new Map<number, { attempts: number; retryAt: number }>();
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
    await client.query(fixedSearchPath);
    try {
      // One worker builds; the others check again when they next fall asleep.
      if (!(await takeJob(client, pipeline.id, "index")) || stopping) return;
      backend = await backendPid(client);
      const started = performance.now();
      log.info({ pipeline: pipeline.id, relation: pipeline.relation }, "building the vector index");
      await withoutTimeLimits(client, () => buildIndex(client, pipeline.id, "vector"));
      settled.add(pipeline.id);
      failures.delete(pipeline.id);
      log.info(
        { pipeline: pipeline.id, seconds: Math.round((performance.now() - started) / 1000) },
        "built the vector index",
      );
    } finally {
      backend = null;
      await client.end();
    }
  }

  /** @returns for how many milliseconds no other attempt is made */
  function delay(pipelineId: number): number {
    const attempts = (failures.get(pipelineId)?.attempts ?? 0) + 1;
    const ms = Math.min(FIRST_RETRY_MS * 2 ** (attempts - 1), LAST_RETRY_MS);
    failures.set(pipelineId, { attempts, retryAt: performance.now() + ms });
    return ms;
  }

  return {
    request(pipeline) {
      if (pipeline.indexMethod === null || stopping || settled.has(pipeline.id) || queued.has(pipeline.id))
        return;
      if (performance.now() < (failures.get(pipeline.id)?.retryAt ?? 0)) return;
      queued.add(pipeline.id);
      building = building
        .then(() => (stopping ? undefined : build(pipeline)))
        .catch((error: unknown) => {
          if (stopping) return;
          const owner = error instanceof pg.DatabaseError && error.code === "42501";
          // Another attempt fails too until the role's rights change.
          if (owner) settled.add(pipeline.id);
          const retryInMs = owner ? null : delay(pipeline.id);
          log.warn(
            {
              pipeline: pipeline.id,
              cause: messageOf(error),
              ...(owner && { try: "embedd run --once, as the table's owner" }),
              ...(error instanceof EmbeddError && { try: error.hint }),
              ...(retryInMs !== null && { retryInMs }),
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
