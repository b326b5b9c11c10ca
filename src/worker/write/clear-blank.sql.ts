import type { Pool } from "pg";
import { isolateFailing } from "../../database/isolate.js";
import { bindKeys, inputRows, keyNames, keyText, keysMatch } from "../../database/key-sql.js";
import { parameters } from "../../database/parameters.js";
import type { Pipeline } from "../../database/pipeline.js";
import { usersSearchPath } from "../../database/pool.js";
import type { RowVersion } from "../rows.js";
import { mayWrite, sameText } from "./complete.sql.js";
import { isRowRefusal } from "./write-rows.js";

/**
 * Takes the vector from rows whose text is blank, as the trigger does when a text becomes blank. A row that was changed
 * or that an application holds locked is left out, and so is one whose UPDATE the table refuses.
 * @returns the key texts of the rows without a vector now
 */
export async function clearBlank(
  pool: Pool,
  pipeline: Pipeline,
  { model, rows }: { model: string; rows: readonly RowVersion[] },
): Promise<Set<string>> {
  const { results } = await isolateFailing(
    rows,
    (part) => clearVectors(pool, pipeline, { model, rows: part }),
    () => Promise.resolve(),
    isRowRefusal,
  );
  return new Set(results);
}

async function clearVectors(
  pool: Pool,
  pipeline: Pipeline,
  { model, rows }: { model: string; rows: readonly RowVersion[] },
): Promise<string[]> {
  const { values, bind } = parameters();
  const keys = bindKeys(pipeline, rows, bind);
  const p = {
    hashes: bind(rows.map((row) => row.hash)),
    pipeline: bind(pipeline.id),
    model: bind(model),
  };
  const text = `
with locked as materialized (
  select ${keyNames(pipeline, "u.")}
  from (${inputRows(pipeline, keys, { hash: `${p.hashes}::bytea[]` })}) as u
  join ${pipeline.relation} t on ${keysMatch(pipeline, "t", "u")}
  where t.${pipeline.embedding} is not null
    and ${sameText(pipeline)}
    and (select count(*) from ${pipeline.relation} t where ${keysMatch(pipeline, "t", "u")}) = 1
    and ${mayWrite(pipeline, p)}
    and (select ${usersSearchPath}) is not null
  for no key update of t skip locked
)
update ${pipeline.relation} t
set ${pipeline.embedding} = null, ${pipeline.modelColumn} = null
from locked l
where ${keysMatch(pipeline, "t", "l")}
returning ${keyText(pipeline)} as key`;
  const result = await pool.query<{ key: string }>(text, values);
  return result.rows.map((row) => row.key);
}
