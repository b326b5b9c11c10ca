import type { ClientBase } from "pg";
import { callSchema } from "../database/call-schema.js";
import { retryDeadlock } from "../database/retry-deadlock.js";

/**
 * Lets a role run the worker on all pipelines, present and future.
 * @param tablesOf only on the tables of this role
 */
export async function grantWorker(client: ClientBase, role: string, tablesOf?: string): Promise<void> {
  await retryDeadlock(() =>
    callSchema(() => client.query("select embedd.grant_worker($1, $2)", [role, tablesOf])),
  );
}

/** The owners on whose tables a worker's role has no rights, because code of theirs would reach the tables of others. */
export async function ownersLeftOut(client: ClientBase, role: string): Promise<string[]> {
  const { rows } = await client.query<{ owner: string }>(
    `
select distinct pg_get_userbyid(c.relowner)::text as owner
from embedd.pipelines p
join pg_class c on c.oid = p.relation
where quote_ident($1)::regrole not in (select embedd.worker_roles_for(p.relation))
  and not exists (
    select from embedd.worker_scopes s where s.role = quote_ident($1)::regrole and s.owner <> c.relowner)
order by 1`,
    [role],
  );
  return rows.map(({ owner }) => owner);
}

/** Lets code of an owner's tables run with the rights of workers and superusers, or no longer. */
export async function setTrust(client: ClientBase, owner: string, trusted: boolean): Promise<void> {
  await callSchema(() =>
    client.query(trusted ? "select embedd.trust_owner($1)" : "select embedd.revoke_trust($1)", [owner]),
  );
}

/** Lets a role watch the tables that it owns, where another role migrated the schema. */
export async function grantOwner(client: ClientBase, role: string): Promise<void> {
  await retryDeadlock(() => callSchema(() => client.query("select embedd.grant_owner($1)", [role])));
}

/**
 * Revokes what `grantWorker` and `grantOwner` granted.
 * @returns the privileges on tables and schemas that the client's role may not revoke
 */
export async function revokeWorker(client: ClientBase, role: string): Promise<string[]> {
  const { rows } = await retryDeadlock(() =>
    callSchema(() => client.query<{ kept: string }>("select embedd.revoke_worker($1) as kept", [role])),
  );
  return rows.map(({ kept }) => kept);
}
