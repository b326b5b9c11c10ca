import type { ClientBase } from "pg";

/** Until the transaction ends: wait at most 10 s for a lock, and keep notices quiet. */
export async function limitUninstall(client: ClientBase): Promise<void> {
  await client.query("set local lock_timeout = '10s'");
  await client.query("set local client_min_messages = warning");
}

export async function countChunks(client: ClientBase): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    "select count(*)::float8 as count from embedd.chunks",
  );
  return rows[0]?.count ?? 0;
}

/** Revokes the rights of every role that `embedd.grant_worker` or `embedd.grant_owner` was called for. */
export async function revokeWorkers(client: ClientBase): Promise<void> {
  // The schema of another build may not have the function.
  await client.query(`
do $$
begin
  if to_regprocedure('embedd.owner_roles()') is not null then
    perform embedd.revoke_worker(r.rolname)
    from embedd.owner_roles() as role
    join pg_roles r on r.oid = role;
  end if;
end $$`);
  await client.query(`
select embedd.revoke_worker(r.rolname)
from embedd.worker_roles() as role
join pg_roles r on r.oid = role`);
}

/** Lists the watched tables that still exist, without embedd's own. */
export async function watchedTables(client: ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ relation: string }>(`
select distinct relation::text as relation
from embedd.pipelines
where relation <> 'embedd.chunks'::regclass
  and exists (select from pg_class where oid = relation)
order by 1`);
  return rows.map(({ relation }) => relation);
}

/** Drops triggers and indexes of embedd that belong to no pipeline. Another build may have no function for that. */
export async function dropStrays(client: ClientBase): Promise<void> {
  const { rowCount } = await client.query(
    "select where to_regprocedure('embedd.drop_strays(regclass)') is not null",
  );
  if (rowCount === 0) return;
  await client.query(
    "select embedd.drop_strays(relation) from (select distinct relation from embedd.stray_triggers()) as tables",
  );
}

export async function dropSchema(client: ClientBase): Promise<void> {
  await client.query("drop schema embedd cascade");
}
