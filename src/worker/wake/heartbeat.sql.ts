import type { ClientBase } from "pg";

/** Takes a new worker id and holds its lock until the connection ends. */
export async function announceWorker(client: ClientBase): Promise<number> {
  const { rows } = await client.query<{ id: number }>("select embedd.announce_worker() as id");
  return rows[0]?.id ?? 0;
}

/**
 * Says that the worker is alive. A worker that has not said so for 15 s counts as frozen.
 * @param heardMsAgo how long ago a notification last reached it
 */
export async function beat(client: ClientBase, worker: number, heardMsAgo: number): Promise<void> {
  await client.query("select embedd.beat($1, $2)", [worker, heardMsAgo]);
}

/** Says that the worker has stopped, before its connection ends. */
export async function depart(client: ClientBase, worker: number): Promise<void> {
  await client.query("delete from embedd.heartbeats where worker = $1", [worker]);
}
