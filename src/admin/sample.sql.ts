import type { Pool } from "pg";
import { keyText, keysOut, needsVector, rowVersion } from "../database/key-sql.js";
import { parameters } from "../database/parameters.js";
import type { Pipeline, WorkKind } from "../database/pipeline.js";
import { checkSameTable } from "../database/same-table.sql.js";
import { inTransaction } from "../database/transaction.js";
import { READ_NO_TEXT } from "../worker/claim/mark-unreadable.sql.js";
import { readRows } from "../worker/claim/read-rows.sql.js";
import { leasedKeyOf } from "../worker/rows.js";
import type { KeyResult } from "../worker/rows.js";

/**
 * Reads the content columns of randomly picked rows: pending ones, or those whose vectors are not from `model`.
 * Each column is truncated at `maxChars`. At most `limit` rows, without those that PostgreSQL cannot read.
 */
export async function sampleBacklog(
  pool: Pool,
  pipeline: Pipeline,
  {
    kind,
    model,
    limit,
    maxChars,
  }: { kind: Exclude<WorkKind, "refresh">; model: string; limit: number; maxChars: number },
): Promise<(string | null)[][]> {
  const { values, bind } = parameters();
  const p = { limit: bind(limit), model: bind(model) };
  const condition = kind === "stale" ? needsVector(pipeline, kind, p.model) : pipeline.pending;
  const picked = await inTransaction(pool, async (client) => {
    await checkSameTable(client, pipeline);
    await client.query(READ_NO_TEXT);
    return client.query<KeyResult>(
      `
select ${keyText(pipeline)} as key_text, ${rowVersion(pipeline)} as version, ${keysOut(pipeline, "t")}
from ${pipeline.relation} t
where ${condition}
  and ${p.model}::text is not null
order by random()
limit ${p.limit}`,
      values,
    );
  });
  const keys = picked.rows.map((row) => leasedKeyOf(pipeline, row));
  const { rows } = await readRows(pool, pipeline, keys, { kind, model, maxChars });
  return rows.map((row) => row.content);
}
