import type { ClientBase } from "pg";
import { buildIndex } from "../database/build-index.sql.js";
import { loadPipelines } from "../database/load-pipelines.sql.js";
import { lockingTable } from "./name-holders.js";
import { repairPipelines } from "./repair.sql.js";
import type { RepairOptions } from "./repair.sql.js";
import { hasProblem, readStatus } from "./status.sql.js";

export type { RepairOptions } from "./repair.sql.js";

/**
 * Restores a watched table's triggers, privileges and index of pending rows, also after another table has replaced it
 * under the same name.
 * @param client of the table's owner, outside a transaction
 * @returns the repaired pipelines
 * @throws EmbeddError with code `existing_vectors` if vectors may belong to earlier texts and `existing` is missing,
 *   `not_watched`, or `locked` if another transaction holds the table
 */
export async function repair(
  client: ClientBase,
  options: RepairOptions,
  onIndex: () => void = () => undefined,
): Promise<number[]> {
  const ids = await lockingTable(client, options.relation, () => repairPipelines(client, options));
  onIndex();
  for (const id of ids) await buildIndex(client, id, "pending");
  return ids;
}

/** What is wrong with pipelines that no repair cures, a line each, as `embedd status` reports it once a worker has looked. */
export async function problemsLeft(client: ClientBase, ids: readonly number[]): Promise<string[]> {
  const { broken } = await loadPipelines(client);
  const status = await readStatus(client, ids);
  return status.flatMap((pipeline) => {
    const { pipeline: id, relation, embedding, error, failed, dead, vectorIndex } = pipeline;
    const problem = error ?? broken.find((b) => b.id === id)?.reason ?? null;
    if (problem === null && !hasProblem(pipeline)) return [];
    const name = `${relation}.${embedding}`;
    return [
      ...(problem === null ? [] : [`${name}: ${problem}`]),
      ...(failed + dead === 0
        ? []
        : [`${name}: ${failed + dead} failed row${failed + dead === 1 ? "" : "s"}; embedd failures`]),
      ...(vectorIndex === "failed" ? [`${name}: the vector index is invalid; embedd run --once`] : []),
    ];
  });
}
