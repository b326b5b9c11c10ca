import type { ClientBase } from "pg";
import type { Pipeline } from "./pipeline.js";

/**
 * Statements find a table by its name, and planning one may already run code of the table's owner. So this comes before
 * the first statement after a wait.
 * @throws DatabaseError 42P01 if the name means another table than the pipeline's, or the table has another owner
 */
export async function checkSameTable(client: ClientBase, pipeline: Pipeline): Promise<void> {
  const { relation, relationOid, ownerOid } = pipeline;
  await client.query("select embedd.check_same_table($1, $2, $3)", [relation, relationOid, ownerOid]);
}
