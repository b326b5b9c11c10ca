import type { ClientBase, Pool } from "pg";
import { callSchema } from "../../database/call-schema.js";
import type { SwitchCounts } from "./switch.js";

/** Counts the rows that a switch has still to embed. Reads the index of pending rows, not the table. */
export async function countBehind(db: Pool | ClientBase, shadow: number): Promise<SwitchCounts> {
  const { rows } = await callSchema(() =>
    db.query<SwitchCounts>(
      `
select pending::float8 as pending,
  behind::float8 as behind,
  dead::float8 as dead
from embedd.count_behind($1)`,
      [shadow],
    ),
  );
  return rows[0] ?? { pending: 0, behind: 0, dead: 0 };
}

/** The most pending rows that the swap accepts: with more it would hold its lock for too long. */
export async function mostPending(db: Pool | ClientBase, shadow: number, maxBehind: number): Promise<number> {
  const { rows } = await db.query<{ most: number }>("select embedd.most_pending($1, $2)::float8 as most", [
    shadow,
    maxBehind,
  ]);
  return rows[0]?.most ?? 0;
}

/** Counts the rows with a text. Reads the whole table. */
export async function countTexts(db: Pool | ClientBase, shadow: number): Promise<number> {
  const { rows } = await db.query<{ texts: number }>(
    `
select (counts.pending + counts.done)::float8 as texts
from embedd.pipelines p
cross join lateral embedd.count_rows(p) as counts
where p.id = $1`,
    [shadow],
  );
  return rows[0]?.texts ?? 0;
}

/** Lists keys of dead rows, as `embedd failures` shows them. */
export async function deadKeys(db: Pool | ClientBase, shadow: number, limit: number): Promise<string[]> {
  const { rows } = await db.query<{ key: string }>(
    `
select key
from embedd.failures
where pipeline_id = $1
  and dead
  and code <> 'white_space'
order by key
limit $2`,
    [shadow, limit],
  );
  return rows.map(({ key }) => key);
}
