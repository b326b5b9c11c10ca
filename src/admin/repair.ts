import type { ClientBase } from "pg";
import { buildIndex } from "../database/build-index.sql.js";
import { loadPipelines } from "../database/load-pipelines.sql.js";
import { lockingTable } from "./name-holders.js";
import { readRemains, repairPipelines } from "./repair.sql.js";
import type { RepairOptions } from "./repair.sql.js";

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

/**
 * What is still wrong with pipelines, a line each: what the catalog shows now, not what a worker that looked before the
 * repair may have written down since.
 */
export async function problemsLeft(client: ClientBase, ids: readonly number[]): Promise<string[]> {
  const { broken, pipelines } = await loadPipelines(client);
  const problems = new Map([
    ...broken.flatMap(({ id, reason, codeRisk }) => (codeRisk ? [] : [[id, reason] as const])),
    ...pipelines.flatMap(({ id, problem }) => (problem === null ? [] : [[id, problem] as const])),
  ]);
  const remains = await readRemains(client, ids);
  return remains.flatMap(({ id, column, failed, invalidIndex }) =>
    [
      problems.get(id),
      failed > 0 && `${failed} failed row${failed === 1 ? "" : "s"}; embedd failures`,
      invalidIndex && "the vector index is invalid; embedd run --once",
    ]
      .filter((problem) => typeof problem === "string")
      .map((problem) => `${column}: ${problem}`),
  );
}
