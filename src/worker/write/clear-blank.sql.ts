import type { Pool } from "pg";
import { bindKeys, keyNames, keyText, keysMatch, typedKeys } from "../../database/key-sql.js";
import { parameters } from "../../database/parameters.js";
import type { Pipeline } from "../../database/pipeline.js";
import type { RowVersion } from "../rows.js";
import { mayWrite, sameText } from "./complete.sql.js";
import { rowRefusal } from "./write-rows.js";

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
  try {
    return await clearVectors(pool, pipeline, { model, rows });
  } catch (error) {
    if (rowRefusal(error) === null) throw error;
    if (rows.length === 1) return new Set();
    const half = Math.ceil(rows.length / 2);
    const a = await clearBlank(pool, pipeline, { model, rows: rows.slice(0, half) });
    const b = await clearBlank(pool, pipeline, { model, rows: rows.slice(half) });
    return new Set([...a, ...b]);
  }
}

async function clearVectors(
  pool: Pool,
  pipeline: Pipeline,
  { model, rows }: { model: string; rows: readonly RowVersion[] },
): Promise<Set<string>> {
  if (rows.length === 0) return new Set();
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
  from (
    select ${typedKeys(pipeline)}, u.hash
    from unnest(${keys}, ${p.hashes}::bytea[]) as u (${keyNames(pipeline)}, hash)
  ) as u
  join ${pipeline.relation} t on ${keysMatch(pipeline, "t", "u")}
  where t.${pipeline.embedding} is not null
    and ${sameText(pipeline)}
    and (select count(*) from ${pipeline.relation} t where ${keysMatch(pipeline, "t", "u")}) = 1
    and ${mayWrite(pipeline, p)}
  for no key update of t skip locked
)
update ${pipeline.relation} t
set ${pipeline.embedding} = null, ${pipeline.modelColumn} = null
from locked l
where ${keysMatch(pipeline, "t", "l")}
returning ${keyText(pipeline)} as key`;
  const result = await pool.query<{ key: string }>(text, values);
  return new Set(result.rows.map((row) => row.key));
}
