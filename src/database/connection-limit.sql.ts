import type { Pool } from "pg";

/** How many connections the session's role and database allow; null: no limit of their own. */
export async function connectionLimit(pool: Pool): Promise<number | null> {
  const { rows } = await pool.query<{ most: number | null }>(`
select least(
  case when r.rolconnlimit >= 0 then r.rolconnlimit end,
  case when d.datconnlimit >= 0 then d.datconnlimit end) as most
from pg_roles r
cross join pg_database d
where r.rolname = session_user
  and d.datname = current_database()
  and not r.rolsuper`);
  return rows[0]?.most ?? null;
}
