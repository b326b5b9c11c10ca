import type { ClientBase, Pool } from "pg";

/**
 * The session's role, or the one that logged in, if it is a superuser: code can RESET ROLE. Embedded PostgreSQL knows no other role, and everybody who connects to it is
 * its owner, so there it is no risk.
 */
export async function superuserName(db: Pool | ClientBase): Promise<string | null> {
  const { rows } = await db.query<{ role: string }>(`
select r.rolname::text as role
from pg_roles r
where r.rolname in (current_user, session_user)
  and r.rolsuper
  and current_setting('embedd.single_session', true) is distinct from 'on'
order by r.rolname = current_user desc`);
  return rows[0]?.role ?? null;
}

export const describeSuperuser = (role: string): string =>
  `role ${role} is a superuser: code that trusted owners attach to their tables, such as triggers, runs with its rights`;

export const WORKER_ROLE_HINT = "embedd grant embedd_worker  # then run the worker as that role";
