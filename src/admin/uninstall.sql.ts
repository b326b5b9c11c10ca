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
select distinct format('%I.%I', n.nspname, c.relname) as relation
from embedd.pipelines p
join pg_class c on c.oid = p.relation
join pg_namespace n on n.oid = c.relnamespace
where p.relation <> 'embedd.chunks'::regclass
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

/**
 * Lists what others built on embedd's objects, or put into its schema: DROP SCHEMA ... CASCADE would take it along. Call it
 * when the triggers on watched tables are gone.
 * @param own names of the relations and functions that embedd makes
 */
export async function foreignDependents(client: ClientBase, own: readonly string[]): Promise<string[]> {
  const { rows } = await client.query<{ object: string }>(
    `
with own (class, oid) as (
  select 'pg_class'::regclass, oid from pg_class where relnamespace = 'embedd'::regnamespace
  union all
  select 'pg_proc'::regclass, oid from pg_proc where pronamespace = 'embedd'::regnamespace
  union all
  select 'pg_type'::regclass, oid from pg_type where typnamespace = 'embedd'::regnamespace
),
dependents (class, oid, sub) as (
  select distinct
    case when w.oid is null then d.classid else 'pg_class'::regclass end,
    coalesce(w.ev_class, d.objid),
    case when w.oid is null then d.objsubid else 0 end
  from own o
  join pg_depend d on d.refclassid = o.class and d.refobjid = o.oid and d.deptype in ('n', 'a')
  left join pg_rewrite w on d.classid = 'pg_rewrite'::regclass and w.oid = d.objid
  where d.classid <> 'pg_publication_rel'::regclass
)
select pg_describe_object(d.class, d.oid, d.sub) as object
from dependents d
left join pg_constraint n on d.class = 'pg_constraint'::regclass and n.oid = d.oid
left join pg_trigger t on d.class = 'pg_trigger'::regclass and t.oid = d.oid
left join pg_attrdef f on d.class = 'pg_attrdef'::regclass and f.oid = d.oid
left join pg_policy p on d.class = 'pg_policy'::regclass and p.oid = d.oid
where ('pg_class'::regclass, coalesce(n.conrelid, t.tgrelid, f.adrelid, p.polrelid)::oid) not in (select class, oid from own)
  or (coalesce(n.conrelid, t.tgrelid, f.adrelid, p.polrelid) is null and (d.class, d.oid) not in (select class, oid from own))
union
select pg_describe_object('pg_class'::regclass, c.oid, 0)
from pg_class c
where c.relnamespace = 'embedd'::regnamespace
  and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
  and c.relname <> all ($1)
  and not exists (
    select from pg_depend d
    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i') and d.refclassid = 'pg_class'::regclass)
union
select pg_describe_object('pg_proc'::regclass, p.oid, 0)
from pg_proc p
where p.pronamespace = 'embedd'::regnamespace and p.proname <> all ($1)
order by 1`,
    [own],
  );
  return rows.map(({ object }) => object);
}

export async function dropSchema(client: ClientBase): Promise<void> {
  await client.query("drop schema embedd cascade");
}
