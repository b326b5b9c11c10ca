import type { ClientBase } from "pg";
import { callSchema } from "../database/call-schema.js";

/** Lets a role run the worker on all pipelines, present and future. */
export async function grantWorker(client: ClientBase, role: string): Promise<void> {
  await callSchema(() => client.query("select embedd.grant_worker($1)", [role]));
}

/** Revokes what `grantWorker` granted. */
export async function revokeWorker(client: ClientBase, role: string): Promise<void> {
  await callSchema(() => client.query("select embedd.revoke_worker($1)", [role]));
}
