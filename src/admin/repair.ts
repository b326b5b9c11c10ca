import type { ClientBase } from "pg";
import { buildIndex } from "../database/build-index.sql.js";
import { lockingTable } from "./name-holders.js";
import { repairPipelines } from "./repair.sql.js";
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
