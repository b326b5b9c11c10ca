import type { Pool } from "pg";
import { keyText, keysOut, needsVector, rowVersion } from "../../database/key-sql.js";
import { parameters } from "../../database/parameters.js";
import type { Pipeline, WorkKind } from "../../database/pipeline.js";
import { inTransaction } from "../../database/transaction.js";
import { leasedKeyOf } from "../rows.js";
import type { KeyResult } from "../rows.js";
import { readRows } from "./read-rows.sql.js";

/** With these settings the planner reads the index of pending rows, and no text to tell whether a row is pending. */
export const READ_NO_TEXT = "set local enable_seqscan = off; set local enable_bitmapscan = off";

/**
 * Finds failed rows whose text was readable when they failed and is not any more, and records that. Statements that
 * compare the texts of failed rows leave these out from then on.
 */
export async function markUnreadable(
  pool: Pool,
  pipeline: Pipeline,
  { kind, model }: { kind: WorkKind; model: string },
): Promise<void> {
  const { values, bind } = parameters();
  const p = { pipeline: bind(pipeline.id), model: bind(model) };
  const unembedded = kind === "pending" ? pipeline.pending : needsVector(pipeline, kind, p.model);
  const found = await inTransaction(pool, async (client) => {
    await client.query(READ_NO_TEXT);
    return client.query<KeyResult>(
      `
select ${keyText(pipeline)} as key_text, ${rowVersion(pipeline)} as version, ${keysOut(pipeline, "t")}
from ${pipeline.relation} t
where ${unembedded}
  and ${p.model}::text is not null
  and ${keyText(pipeline)} in (
    select f.key from embedd.failures f
    where f.pipeline_id = ${p.pipeline} and not f.unreadable)`,
      values,
    );
  });
  const keys = found.rows.map((row) => leasedKeyOf(pipeline, row));
  const { refused } = await readRows(pool, pipeline, keys, { kind, model, maxChars: 0 });
  await pool.query(
    `
update embedd.failures f
set unreadable = true, content_hash = u.version, code = u.code
from unnest($2::text[], $3::bytea[], $4::text[]) as u (key, version, code)
where f.pipeline_id = $1 and f.key = u.key and not f.unreadable`,
    [
      pipeline.id,
      refused.map(({ row }) => row.keyText),
      refused.map(({ row }) => row.hash),
      refused.map(({ code }) => code),
    ],
  );
}
