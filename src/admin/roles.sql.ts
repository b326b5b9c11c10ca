import type { ClientBase } from "pg";
import { callSchema } from "../database/call-schema.js";
import { retryDeadlock } from "../database/retry-deadlock.js";

/** Lets a role run the worker on all pipelines, present and future. */
export async function grantWorker(client: ClientBase, role: string): Promise<void> {
  await retryDeadlock(() => callSchema(() => client.query("select embedd.grant_worker($1)", [role])));
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
