import pg from "pg";
import type { ClientBase } from "pg";

export interface ServeAnswer {
  granted: boolean;
  /** The model that serves it, or served it last, and one of its workers. */
  byModel: string | null;
  byWorker: number | null;
}

/**
 * Asks to serve a pipeline until the session ends. Workers of one model share a pipeline. A worker of another
 * model gets it only when none of them is connected, since vectors of two models do not compare.
 */
export async function serve(
  client: ClientBase,
  pipelineId: number,
  worker: number,
  model: string,
): Promise<ServeAnswer> {
  const { rows } = await client.query<ServeAnswer>(
    `select granted, by_model as "byModel", by_worker as "byWorker" from embedd.serve($1, $2, $3)`,
    [pipelineId, worker, model],
  );
  return rows[0] ?? { granted: false, byModel: null, byWorker: null };
}

/** Another transaction holds the pipeline's row locked. */
export const isBusy = (error: unknown): boolean =>
  error instanceof pg.DatabaseError && error.code === "55P03";

export async function unserve(client: ClientBase, pipelineId: number, worker: number): Promise<void> {
  await client.query("select embedd.unserve($1, $2)", [pipelineId, worker]);
}
