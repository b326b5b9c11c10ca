--! Previous: sha1:2093048ecd604e8269cf514d16121462e55589b1
--! Hash: sha1:89c839cd40e97a53482ecbd64f3284bd2f8594d4
--! Message: roles

set local search_path = pg_catalog, pg_temp;

-- Roles. Only the owner of a table can watch it. A worker needs only this on the table: SELECT on the key, content,
-- embedding and model columns, and UPDATE on the last two. The system columns xmin and ctid tell it that a row was edited
-- whose text it cannot read, and where the rows written last are.

create function embedd.worker_roles() returns setof regrole
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select distinct acl.grantee::regrole
  from pg_class c, aclexplode(c.relacl) as acl
  where c.oid = 'embedd.leases'::regclass
    and acl.privilege_type = 'INSERT'
    and acl.grantee <> c.relowner
    and acl.grantee <> 0
$$;
comment on function embedd.worker_roles() is 'The roles that embedd.grant_worker was called with.';

create function embedd.is_trusted(owner oid, role name) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select pg_has_role(is_trusted.owner, is_trusted.role, 'MEMBER')
    or is_trusted.owner = (select n.nspowner from pg_namespace n where n.nspname = 'embedd')
    or exists (select from embedd.trusted_owners t where t.owner = is_trusted.owner)
$$;
comment on function embedd.is_trusted(oid, name) is
  'Whether code of this owner may run with the role''s rights: it has them anyway, migrated embedd, or is trusted.';

-- Only for superusers and workers. Code can SET ROLE to whatever the role is a member of, whether or not it inherits its rights.
-- Membership in workers' roles does not count in itself: these have no rights but those on watched tables.
create function embedd.rights_beyond(owner oid, role name) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  with itself as (
    select * from pg_roles r where r.rolname = rights_beyond.role
  ),
  own as (
    select r.oid, r.rolname, r.rolname = rights_beyond.role as itself, r.rolcreaterole, r.rolcreatedb, r.rolreplication,
      r.rolbypassrls
    from pg_roles r
    where not (select i.rolsuper from itself i)
      and pg_has_role(rights_beyond.role, r.oid, 'MEMBER')
      and not pg_has_role(rights_beyond.owner, r.oid, 'MEMBER')
  )
  select case
    when (select i.rolsuper from itself i) then format('superuser %I', rights_beyond.role)
    when not exists (select from own o where has_column_privilege(o.oid, 'embedd.pipelines', 'reembed', 'UPDATE')) then null
    else format('role %I, which ', rights_beyond.role) || coalesce(
      (select 'may create roles' from own o where o.rolcreaterole limit 1),
      (select 'may create databases' from own o where o.rolcreatedb limit 1),
      (select 'may replicate' from own o where o.rolreplication limit 1),
      (select 'bypasses row-level security, which keeps apart what embedd knows of each owner'
        from own o
        where o.rolbypassrls and (select c.relrowsecurity from pg_class c where c.oid = 'embedd.pipelines'::regclass)
        limit 1),
      (select format('owns objects%s', case when o.itself then '' else ' as a member of ' || quote_ident(o.rolname) end)
        from own o
        join pg_shdepend d on d.refclassid = 'pg_authid'::regclass and d.refobjid = o.oid and d.deptype = 'o'
        where d.dbid in (0, (select oid from pg_database where datname = current_database()))
        limit 1),
      (select format('is a member of %I', o.rolname)
        from own o
        where not o.itself and o.oid not in (select w.role::oid from embedd.worker_roles() w (role))
        order by o.rolname
        limit 1),
      -- What an owner gives a worker of another owner by hand, that owner's code may use.
      (select 'also works on tables of ' || string_agg(distinct quote_ident(pg_get_userbyid(c.relowner)), ', ')
        from embedd.pipelines p
        join pg_class c on c.oid = p.relation
        where not pg_has_role(rights_beyond.owner, c.relowner, 'MEMBER')
          and exists (
            select from own o
            left join embedd.worker_scopes s on s.role = o.oid
            where has_any_column_privilege(o.oid, c.oid, 'UPDATE')
              and not has_any_column_privilege(rights_beyond.owner, c.oid, 'UPDATE')
              and (s.owner is null or s.owner = c.relowner))
          -- It comes with embedd, and nobody has used it yet. A size is asked of no other table, because that takes a lock.
          and (p.relation is distinct from to_regclass('embedd.chunks') or pg_relation_size(p.relation) > 0)))
  end
$$;
comment on function embedd.rights_beyond(oid, name) is
  'The rights that the owner of a table would gain from code that runs as the role; NULL: none.';

-- A role that works on the tables of one owner gets no right on those of another, unless that owner is trusted: the code of
-- either would reach the tables of the other.
create function embedd.worker_roles_for(relation regclass) returns setof regrole
language sql stable
set search_path = pg_catalog, pg_temp as $$
  -- Materialized, so that the conditions see no other role: one that is dropped meanwhile would raise an error in them.
  with workers as materialized (
    select w.role, r.rolname
    from embedd.worker_roles() as w (role)
    join pg_roles r on r.oid = w.role
  )
  select w.role
  from workers w
  join pg_class c on c.oid = worker_roles_for.relation
  left join embedd.worker_scopes s on s.role = w.role
  where (s.owner is null or s.owner = c.relowner)
    and (embedd.is_trusted(c.relowner, w.rolname) or embedd.rights_beyond(c.relowner, w.rolname) is null)
$$;
comment on function embedd.worker_roles_for(regclass) is 'The workers'' roles that may serve this table.';

create function embedd.owner_roles() returns setof regrole
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select distinct acl.grantee::regrole
  from pg_proc f, aclexplode(f.proacl) as acl
  where f.pronamespace = 'embedd'::regnamespace
    and f.proname = 'watch_for_owner'
    and acl.grantee <> f.proowner
    and acl.grantee <> 0
$$;
comment on function embedd.owner_roles() is 'The roles that embedd.grant_owner was called with.';

-- The one list of what a role needs, for grant_worker, grant_owner and doctor. All functions of embedd run with the
-- rights of their caller, so EXECUTE on them gives no right. Of the few that do not, workers need only the two named below.
create function embedd.role_privileges(purpose text)
returns table (kind text, object oid, name text, columns text, privilege text)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  with types as (
    select t.oid, t.typsend
    from pg_extension e
    join pg_type t on t.typnamespace = e.extnamespace and t.typname in ('vector', 'halfvec')
    where e.extname = 'vector'
  ),
  on_tables (purpose, name, columns, privileges) as (
    values
      ('worker', 'pipelines', null, '{SELECT}'::text[]),
      ('worker', 'pipelines', 'error, caught_up_at, served_model, served_by, wait_reason, wait_until, reembed', '{UPDATE}'),
      ('worker', 'pipelines', 'former_models, gap, trigger_versions, refresh_started_at, refresh_cursor, refreshed', '{UPDATE}'),
      ('worker', 'grants', null, '{SELECT}'),
      ('worker', 'status', null, '{SELECT}'),
      ('worker', 'workers', null, '{SELECT}'),
      ('worker', 'leases', null, '{SELECT,INSERT,UPDATE,DELETE}'),
      ('worker', 'failures', null, '{SELECT,INSERT,UPDATE,DELETE}'),
      ('worker', 'usage', null, '{SELECT,INSERT,UPDATE,DELETE}'),
      ('worker', 'vectors', null, '{SELECT,INSERT,UPDATE,DELETE}'),
      ('worker', 'locks', null, '{SELECT,INSERT,UPDATE,DELETE}'),
      ('worker', 'heartbeats', null, '{SELECT,INSERT,UPDATE,DELETE}'),
      ('worker', 'advisory_locks', null, '{SELECT}'),
      ('worker', 'foreign_locks', null, '{SELECT}'),
      ('worker', 'refresh_windows', null, '{SELECT,INSERT,UPDATE,DELETE}'),
      ('worker', 'worker_ids', null, '{USAGE}'),
      ('worker', 'trusted_owners', null, '{SELECT}'),
      ('worker', 'worker_scopes', null, '{SELECT}'),
      ('owner', 'pipelines', null, '{SELECT}'),
      ('owner', 'status', null, '{SELECT}'),
      ('owner', 'workers', null, '{SELECT}'),
      ('owner', 'locks', null, '{SELECT}'),
      ('owner', 'advisory_locks', null, '{SELECT}'),
      ('owner', 'foreign_locks', null, '{SELECT}'),
      ('owner', 'trusted_owners', null, '{SELECT}'),
      ('owner', 'worker_scopes', null, '{SELECT}'))
  select 'schema', n.oid, quote_ident(n.nspname), null, 'USAGE'
  from pg_namespace n
  where n.nspname = 'embedd'
  union all
  select case c.relkind when 'S' then 'sequence' else 'table' end, c.oid, format('embedd.%I', c.relname), t.columns, u.privilege
  from on_tables t
  cross join unnest(t.privileges) as u (privilege)
  join pg_class c on c.relnamespace = 'embedd'::regnamespace and c.relname = t.name
  where t.purpose = role_privileges.purpose
  union all
  select 'routine', f.oid, f.oid::regprocedure::text, null, 'EXECUTE'
  from pg_proc f
  where f.pronamespace = 'embedd'::regnamespace
    and f.prorettype <> 'trigger'::regtype
    and (not f.prosecdef
      or f.proname in ('follow_names', 'read_heartbeats')
      or (role_privileges.purpose = 'worker' and f.proname = 'set_row_security')
      or (role_privileges.purpose = 'owner' and f.proname like '%\_for\_owner'))
  union all
  select 'schema', n.oid, quote_ident(n.nspname), null, 'USAGE'
  from pg_extension e
  join pg_namespace n on n.oid = e.extnamespace
  where e.extname = 'vector'
  union all
  -- What statements call of pgvector: casts, the binary form for the cache, distance, and comparison. The planner turns
  -- NOT (a <> b) into a = b.
  select 'routine', f.oid, f.oid::regprocedure::text, null, 'EXECUTE'
  from pg_proc f
  where f.oid in (
    select u.function
    from types t
    cross join lateral (
      select k.castfunc from pg_cast k where k.castsource = t.oid and k.casttarget in (select oid from types)
      union all
      select o.oprcode from pg_operator o where o.oprleft = t.oid and o.oprname in ('<=>', '<>', '=')
      union all
      select t.typsend) as u (function))
$$;
comment on function embedd.role_privileges(text) is
  'The privileges that a worker or a table''s owner needs, except on watched tables. purpose: worker or owner.';

create function embedd.pipeline_privileges(pipeline embedd.pipelines)
returns table (kind text, object oid, name text, columns text, privilege text)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  with columns as (
    select a.attname, coalesce(nullif(t.typbasetype, 0), t.oid) as type, t.typnamespace, u.role
    from (
      select unnest(pipeline.key_columns), 'key'
      union all
      select unnest(pipeline.content_columns), 'content'
      union all
      select unnest(array[pipeline.embedding_column, pipeline.model_column]), 'written'
      union all
      select unnest(array['xmin', 'ctid']), 'system') as u (name, role)
    join pg_attribute a on a.attrelid = pipeline.relation and a.attname = u.name and not a.attisdropped
    join pg_type t on t.oid = a.atttypid
  ),
  operators (operator) as (
    select k.operator
    from pg_index i
    cross join lateral embedd.key_operators(i.indexrelid) k
    where i.indrelid = pipeline.relation and i.indisprimary
  ),
  functions (oid) as (
    -- Keys and texts are read as text, and keys are read back.
    select k.castfunc
    from columns c
    join pg_cast k on k.castsource = c.type and k.casttarget = 'text'::regtype
      or k.casttarget = c.type and k.castsource = 'text'::regtype
    where c.role <> 'written'
    union
    select o.oprcode
    from columns c
    join pg_operator o on o.oid in (select k.operator from operators k)
    where c.role = 'key'
  )
  select 'table', pipeline.relation::oid, pipeline.relation::text, quote_ident(c.attname), p.privilege
  from (select distinct attname, role from columns) c
  join (values ('SELECT'), ('UPDATE')) as p (privilege) on p.privilege = 'SELECT' or c.role = 'written'
  union
  select 'schema', n.oid, quote_ident(n.nspname), null, 'USAGE'
  from pg_namespace n
  where n.oid in (
      select r.relnamespace from pg_class r where r.oid = pipeline.relation
      union
      select c.typnamespace from columns c where c.role = 'key'
      union
      select o.oprnamespace
      from pg_operator o
      where o.oid in (select k.operator from operators k))
    and n.nspname <> 'pg_catalog'
  union
  select 'routine', f.oid, f.oid::regprocedure::text, null, 'EXECUTE'
  from functions u
  join pg_proc f on f.oid = u.oid and f.pronamespace <> 'pg_catalog'::regnamespace
  where has_function_privilege((select r.relowner from pg_class r where r.oid = pipeline.relation), f.oid, 'EXECUTE')
$$;
comment on function embedd.pipeline_privileges(embedd.pipelines) is
  'The privileges that a worker needs on one watched table. None on a function that the table''s owner may not execute.';

create function embedd.has_privilege(role oid, kind text, object oid, columns text, privilege text) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select case
    when kind = 'schema' then has_schema_privilege(role, object, privilege)
    when kind = 'routine' then has_function_privilege(role, object, privilege)
    when kind = 'sequence' then has_sequence_privilege(role, object, privilege)
    when columns is null then has_table_privilege(role, object, privilege)
    else (
      select bool_and(has_column_privilege(role, object, a.attnum, privilege))
      from pg_attribute a
      where a.attrelid = object
        and (quote_ident(a.attname) = columns or quote_ident(a.attname) = any (string_to_array(columns, ', '))))
  end
$$;
comment on function embedd.has_privilege(oid, text, oid, text, text) is
  'Whether a role has one of the privileges that role_privileges and pipeline_privileges list.';

create function embedd.missing_privileges(purpose text) returns setof text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select format('%s%s on %s %s', n.privilege, ' (' || n.columns || ')', n.kind, n.name)
  from embedd.role_privileges(purpose) n
  join pg_roles r on r.rolname = current_user
  where not embedd.has_privilege(r.oid, n.kind, n.object, n.columns, n.privilege)
$$;
comment on function embedd.missing_privileges(text) is 'What the current role lacks of embedd.role_privileges.';

create function embedd.give(role regrole, kind text, object oid, name text, columns text, privilege text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if embedd.has_privilege(role, kind, object, columns, privilege) then
    return;
  end if;
  execute format('grant %s%s on %s %s to %s', privilege, coalesce(' (' || columns || ')', ''), kind, name, role);
  if not embedd.has_privilege(role, kind, object, columns, privilege) then
    perform embedd.refuse('cannot_grant',
      format('role %I may not grant %s on %s %s', current_user, privilege, kind, name),
      format('GRANT %s ON %s %s TO %s;  -- as its owner', privilege, upper(kind), name, role));
  end if;
  -- Privileges in embedd's own schema go with it.
  if kind in ('schema', 'routine') and 'embedd'::regnamespace not in (
    select case when kind = 'schema' then object
      else (select f.pronamespace from pg_proc f where f.oid = object) end) then
    insert into embedd.shared_grants values (role, kind, object, privilege) on conflict do nothing;
  end if;
end $$;
comment on function embedd.give is
  'Grants what a role does not have yet, and records it in embedd.shared_grants if it is on an object of others.';

create function embedd.take_back_unneeded() returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  given record;
begin
  for given in
    delete from embedd.shared_grants g
    where not exists (
        select
        from embedd.worker_roles() r (role)
        cross join lateral (
          select n.kind, n.object, n.privilege from embedd.role_privileges('worker') n
          union all
          select n.kind, n.object, n.privilege
          from embedd.pipelines p, embedd.pipeline_privileges(p) n
          where r.role in (select embedd.worker_roles_for(p.relation))) as n
        where r.role = g.grantee and (n.kind, n.object, n.privilege) = (g.kind, g.object, g.privilege))
      and not exists (
        select
        from embedd.owner_roles() r (role)
        cross join embedd.role_privileges('owner') n
        where r.role = g.grantee and (n.kind, n.object, n.privilege) = (g.kind, g.object, g.privilege))
    returning g.kind, g.privilege,
      (select quote_ident(r.rolname) from pg_roles r where r.oid = g.grantee) as grantee,
      case g.kind
        when 'schema' then (select quote_ident(n.nspname) from pg_namespace n where n.oid = g.object)
        else (select f.oid::regprocedure::text from pg_proc f where f.oid = g.object) end as name
  loop
    if given.name is not null and given.grantee is not null then
      execute format('revoke %s on %s %s from %s', given.privilege, given.kind, given.name, given.grantee);
    end if;
  end loop;
end $$;
comment on function embedd.take_back_unneeded() is
  'Revokes what embedd.shared_grants records and no worker, owner or pipeline needs any more.';

create function embedd.grant_pipeline(pipeline embedd.pipelines, role regrole) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  schema_id oid := (select relnamespace from pg_class where oid = pipeline.relation);
  needed record;
begin
  for needed in
    select * from embedd.pipeline_privileges(pipeline) n
    where not embedd.has_privilege(role, n.kind, n.object, n.columns, n.privilege)
  loop
    if needed.kind = 'table' or needed.object = schema_id then
      execute format('grant %s%s on %s %s to %s',
        needed.privilege, coalesce(' (' || needed.columns || ')', ''), needed.kind, needed.name, role);
      insert into embedd.grants
      select pipeline.id, role, needed.privilege, own.name,
        case when needed.kind = 'table'
          then (select a.attnum::bigint from pg_attribute a where a.attrelid = pipeline.relation and a.attname = own.name)
          else schema_id::bigint end
      from (select (parse_ident(coalesce(needed.columns, needed.name)))[1]) as own (name)
      on conflict do nothing;
    else
      perform embedd.give(role, needed.kind, needed.object, needed.name, needed.columns, needed.privilege);
    end if;
  end loop;
end $$;
comment on function embedd.grant_pipeline(embedd.pipelines, regrole) is
  'Grants what a worker needs on one table, and records it in embedd.grants or embedd.shared_grants.';

create function embedd.granted_object(given embedd.grants, out name text, out granted boolean)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select
    case when given.privilege = 'USAGE' then format('schema %I', n.nspname)
      else format('(%I) on %I.%I', a.attname, n.nspname, c.relname) end,
    exists (
      select from aclexplode(case when given.privilege = 'USAGE' then n.nspacl else a.attacl end) as acl
      where acl.grantee = given.grantee and acl.privilege_type = given.privilege)
  from embedd.pipelines p
  cross join lateral (
    select p.relation_identity is not distinct from embedd.table_identity(p.relation) as here) as numbers
  left join pg_class c on c.oid = p.relation
  left join pg_attribute a on given.privilege <> 'USAGE' and a.attrelid = c.oid and not a.attisdropped
    and case when numbers.here then a.attnum = given.object_number else a.attname = given.object_name end
  join pg_namespace n on case
    when given.privilege <> 'USAGE' then n.oid = c.relnamespace
    when numbers.here then n.oid = given.object_number
    else n.nspname = given.object_name end
  where p.id = given.pipeline_id
    and exists (select from pg_roles r where r.oid = given.grantee)
    and (given.privilege = 'USAGE' or a.attnum is not null)
$$;
comment on function embedd.granted_object(embedd.grants) is
  'The present name of what a privilege was granted on, and whether the role still has it by name; no row if it is gone.';

-- The table, the column, the schema or the role may be gone; PostgreSQL has then revoked the privilege.
create function embedd.undo_grant(given embedd.grants) returns text
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  object record;
begin
  select * into object from embedd.granted_object(given);
  if object.granted is not true then
    return null;
  end if;
  begin
    execute format('revoke %s %s %s from %s',
      given.privilege, case when given.privilege = 'USAGE' then 'on' else '' end, object.name, given.grantee);
  exception when insufficient_privilege then
    null;
  end;
  return (
    select format('%s %s', given.privilege, left_over.name)
    from embedd.granted_object(given) left_over
    where left_over.granted);
end $$;
comment on function embedd.undo_grant(embedd.grants) is
  'Revokes one privilege that embedd granted. Returns the privilege if the current role may not revoke it.';

create function embedd.revoke_pipeline(pipeline embedd.pipelines) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  given embedd.grants;
  heir integer;
begin
  for given in
    delete from embedd.grants g
    where g.pipeline_id = pipeline.id
    returning *
  loop
    if given.privilege = 'USAGE' then
      -- Another pipeline in the schema may still need it.
      select p.id into heir
      from embedd.pipelines p
      join pg_class c on c.oid = p.relation
      join pg_namespace n on n.oid = c.relnamespace
      where n.oid = given.object_number and p.id <> pipeline.id
      limit 1;
      if heir is not null then
        insert into embedd.grants
        values (heir, given.grantee, 'USAGE', given.object_name, given.object_number)
        on conflict do nothing;
        continue;
      end if;
    end if;
    perform embedd.undo_grant(given);
    if given.privilege <> 'USAGE' and exists (select from pg_roles r where r.oid = given.grantee) then
      -- Two pipelines on one table share key columns.
      perform embedd.grant_pipeline(p, given.grantee)
      from embedd.pipelines p
      where p.relation = pipeline.relation and p.id <> pipeline.id and embedd.pipeline_is_whole(p);
    end if;
  end loop;
end $$;
comment on function embedd.revoke_pipeline(embedd.pipelines) is
  'Revokes what embedd.grants records for a pipeline, unless another pipeline needs it.';

create function embedd.resolve_role(role text, hint text) returns regrole
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  found constant regrole := to_regrole(quote_ident(role));
begin
  if found is null then
    perform embedd.refuse('no_such_role', format('there is no role %I', role), hint);
  end if;
  return found;
end $$;
comment on function embedd.resolve_role(text, text) is 'The role with this name; refuses with the hint if there is none.';

create function embedd.grant_worker(role text, tables_of text default null) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  target constant regrole := embedd.resolve_role(role, format('CREATE ROLE %I LOGIN;', role));
  owner regrole;
  scope regrole;
begin
  if tables_of is not null then
    owner := embedd.resolve_role(tables_of, 'select rolname from pg_roles;');
  end if;
  select s.owner into scope from embedd.worker_scopes s where s.role = target;
  if scope is distinct from owner and target in (select embedd.worker_roles()) then
    perform embedd.refuse('worker_scope',
      format('role %I already works on %s', role, coalesce('the tables of ' || scope::text || ' alone', 'all watched tables')),
      format('select embedd.revoke_worker(%L);  -- then grant it again', role),
      format('embedd grant %s --revoke  # then grant it again', embedd.shell_word(role)));
  end if;
  -- DROP OWNED may have revoked what the role had, and a role that was dropped may have left its row.
  delete from embedd.worker_scopes s where s.role = target or not exists (select from pg_roles r where r.oid = s.role);
  if owner is not null then
    insert into embedd.worker_scopes values (target, owner);
  end if;
  perform embedd.set_row_security();
  perform embedd.give(target, n.kind, n.object, n.name, n.columns, n.privilege)
  from embedd.role_privileges('worker') n;
  perform embedd.grant_pipeline(p, target)
  from embedd.pipelines p
  where embedd.pipeline_is_whole(p)
    and target in (select embedd.worker_roles_for(p.relation));
end $$;
comment on function embedd.grant_worker is
  'Lets a role run the worker, for all present and future pipelines, or for those on the tables of one owner: '
  'SELECT on the key, content, embedding and model columns, xmin and ctid; UPDATE on the embedding and model columns. '
  'With tables_of, the role gets rights on no other owner''s table. What embedd keeps about tables that a role has no rights '
  'on, it cannot change.';

create function embedd.revoke_worker(role text) returns setof text
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  target constant regrole := embedd.resolve_role(role, 'select rolname from pg_roles;');
  given embedd.grants;
  own record;
  kept text;
begin
  for given in
    select * from embedd.grants g
    where g.grantee = target
    for update
  loop
    kept := embedd.undo_grant(given);
    if kept is null then
      delete from embedd.grants g
      where g = given;
    else
      return next kept;
    end if;
  end loop;
  for own in
    select n.kind, n.name, n.columns, n.privilege from embedd.role_privileges('worker') n
    union
    select n.kind, n.name, n.columns, n.privilege from embedd.role_privileges('owner') n
  loop
    if own.name like 'embedd.%' or own.name = 'embedd' then
      execute format('revoke %s%s on %s %s from %s',
        own.privilege, coalesce(' (' || own.columns || ')', ''), own.kind, own.name, target);
    end if;
  end loop;
  delete from embedd.worker_scopes s where s.role = target;
  perform embedd.set_row_security();
  perform embedd.take_back_unneeded();
end $$;
comment on function embedd.revoke_worker is
  'Revokes what embedd.grant_worker and embedd.grant_owner granted, and nothing else. Returns the privileges on tables and '
  'schemas that the current role may not revoke.';

create function embedd.grant_owner(role text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  target constant regrole := embedd.resolve_role(role, format('CREATE ROLE %I LOGIN;', role));
begin
  perform embedd.give(target, n.kind, n.object, n.name, n.columns, n.privilege)
  from embedd.role_privileges('owner') n;
end $$;
comment on function embedd.grant_owner(text) is
  'Lets a role watch and unwatch the tables that it owns, repair, pause and re-embed them, and read and retry their failures, '
  'where another role migrated the schema. revoke_worker revokes it.';

create function embedd.schema_owner() returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select quote_ident(pg_get_userbyid(n.nspowner)) from pg_namespace n where n.nspname = 'embedd'
$$;
comment on function embedd.schema_owner() is 'The role that migrated the schema, quoted.';

create function embedd.check_may_manage() returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (
    select from pg_proc f
    where f.pronamespace = 'embedd'::regnamespace
      and f.proname = 'watch_for_owner'
      and has_function_privilege(f.oid, 'EXECUTE')) then
    perform embedd.refuse('not_owner',
      format('role %I may not manage watched tables: role %s migrated this schema', current_user, embedd.schema_owner()),
      format('select embedd.grant_owner(%L);  -- as %s', current_user, embedd.schema_owner()),
      format('embedd grant --owner %s  # as %s', embedd.shell_word(current_user), embedd.schema_owner()));
  end if;
end $$;
comment on function embedd.check_may_manage() is 'Refuses a role that embedd.grant_owner was not called with.';

-- The role that logged in, because a function with its owner's rights does not see the current one.
create function embedd.is_own(relation regclass) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select exists (select from pg_class c where c.oid = relation and pg_has_role(session_user, c.relowner, 'MEMBER'))
$$;
comment on function embedd.is_own(regclass) is 'Whether the session logged in as the table''s owner or a member of it.';

create function embedd.check_owner(relation regclass) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if not embedd.is_own(relation) then
    perform embedd.refuse('not_owner',
      format('role %I does not own table %s', session_user, embedd.name_of(relation)),
      format('log in as %s', coalesce(
        (select quote_ident(pg_get_userbyid(c.relowner)) from pg_class c where c.oid = relation), embedd.schema_owner())));
  end if;
end $$;
comment on function embedd.check_owner(regclass) is
  'Refuses a session that logged in as neither the table''s owner nor a member of it.';

-- What an owner attaches to a table (a trigger, a policy, the predicate of an index, a cast) runs with the rights of whoever
-- writes to the table, reads it, or only plans a query of it. PostgreSQL has no other boundary than the role that logged in:
-- inside a function with its owner's rights, deferred triggers, cursors WITH HOLD and temporary objects would outlast it. So
-- embedd touches a table only where its owner could not gain a right by that, or is trusted.

create function embedd.scoped_pipelines() returns integer[]
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if has_table_privilege('embedd.pipelines', 'INSERT')
     or not exists (select from embedd.worker_scopes s where pg_has_role(current_user, s.role, 'USAGE'))
     or exists (
       select from embedd.worker_roles() w (role)
       where pg_has_role(current_user, w.role, 'USAGE')
         and w.role not in (select s.role from embedd.worker_scopes s)) then
    return null;
  end if;
  return array(
    select p.id
    from embedd.pipelines p
    join pg_class c on c.oid = p.relation
    join embedd.worker_scopes s on s.owner = c.relowner and pg_has_role(current_user, s.role, 'USAGE'));
end $$;
comment on function embedd.scoped_pipelines() is
  'The pipelines that concern the current role, if it is a worker''s role for the tables of one owner; NULL: all.';

-- In PL/pgSQL, because policies call them in every statement, and its plans are kept.
create function embedd.served_pipelines() returns integer[]
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if has_table_privilege('embedd.pipelines', 'INSERT') then
    return null;
  end if;
  return array(
    select p.id
    from embedd.pipelines p
    join pg_class c on c.oid = p.relation
    where has_any_column_privilege(c.oid, 'UPDATE'));
end $$;
comment on function embedd.served_pipelines() is
  'The pipelines on the tables that the current role may write vectors to; NULL: it administers embedd.';

create function embedd.served_owners() returns oid[]
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if has_table_privilege('embedd.pipelines', 'INSERT') then
    return null;
  end if;
  return array(
    select distinct c.relowner
    from embedd.pipelines p
    join pg_class c on c.oid = p.relation
    where has_any_column_privilege(c.oid, 'UPDATE'));
end $$;
comment on function embedd.served_owners() is 'The owners of the tables of embedd.served_pipelines(); NULL: any.';

-- A worker runs code of the tables' owner, which must not reach what embedd keeps about others. Row-level security is on only
-- while somebody could gain from that, because it costs workers some of their rate.
do $$
declare
  own constant text := 'coalesce(%s = any ((select embedd.served_pipelines())::integer[]), true)';
  table_name text;
begin
  foreach table_name in array array['leases', 'failures', 'refresh_windows', 'locks'] loop
    execute format('create policy scope on embedd.%1$s using (%2$s)', table_name, format(own, 'nullif(pipeline_id, 0)'));
  end loop;
  foreach table_name in array array['pipelines', 'usage'] loop
    execute format('create policy reading on embedd.%1$s for select using (true);
        create policy adding on embedd.%1$s for insert with check (%2$s);
        create policy changing on embedd.%1$s for update using (%2$s);
        create policy removing on embedd.%1$s for delete using (%2$s)',
      table_name, format(own, case table_name when 'pipelines' then 'id' else 'pipeline_id' end));
  end loop;
  create policy scope on embedd.vectors using (coalesce(owner = any ((select embedd.served_owners())::oid[]), true));
end $$;

create function embedd.needs_row_security() returns boolean
language sql stable
set search_path = pg_catalog, pg_temp as $$
  with owners as (
    select distinct c.relowner
    from embedd.pipelines p
    join pg_class c on c.oid = p.relation
    where p.relation is distinct from to_regclass('embedd.chunks') or pg_relation_size(p.relation) > 0
  )
  select exists (select from embedd.worker_scopes) or (
    (select count(*) from owners) > 1
    and exists (
      select from owners o
      join pg_roles r on r.oid = o.relowner and not r.rolsuper
      where o.relowner <> (select n.nspowner from pg_namespace n where n.nspname = 'embedd')
        and not exists (select from embedd.trusted_owners t where t.owner = o.relowner)))
$$;
comment on function embedd.needs_row_security() is
  'Whether tables have several owners, not all of them trusted, or a worker''s role works for one owner alone.';

-- With the rights of embedd's owner, for workers: they call it by itself whenever they look at the pipelines, because it locks
-- embedd's tables for a moment. It waits for no lock, so that nobody waits behind it, and is called again.
create function embedd.set_row_security() returns void
language plpgsql
security definer
set lock_timeout = '100ms'
set search_path = pg_catalog, pg_temp as $$
declare
  needed constant boolean := embedd.needs_row_security();
  own record;
begin
  for own in
    select c.oid::regclass as relation
    from pg_class c
    where c.relnamespace = 'embedd'::regnamespace
      and c.relrowsecurity <> needed
      and exists (select from pg_policy l where l.polrelid = c.oid)
    order by c.relname
  loop
    execute format('alter table %s %s row level security', own.relation, case when needed then 'enable' else 'disable' end);
  end loop;
exception when lock_not_available or deadlock_detected then
  null;
end $$;
comment on function embedd.set_row_security() is
  'Turns row-level security of embedd''s tables on or off, as embedd.needs_row_security says.';
revoke execute on function embedd.set_row_security() from public;

create function embedd.code_risk(relation regclass, out owner text, out what text, out cure text)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select
    role.name,
    case when owners.granted then format('role %I, which may create triggers, could run code with the rights of %s',
      role.name, gained.rights)
    else format('its owner %I could run code with the rights of %s', role.name, gained.rights) end,
    format('embedd %s  # or %s',
      case when owners.relowner = 0 then 'grant embedd_worker' else 'trust ' || embedd.shell_word(role.name) end,
      case
        when owners.granted then format('REVOKE TRIGGER ON %s FROM %s', embedd.name_of(relation),
          case when owners.relowner = 0 then 'PUBLIC' else quote_ident(role.name) end)
        when gained.rights like '%also works on tables of%'
        then format('give it a worker of its own: embedd grant embedd_worker --tables-of %s', embedd.shell_word(role.name))
        else 'use a role from embedd grant' end)
  from (
    -- A partition may have another owner than its table.
    select c.relowner, false as granted
    from pg_class c
    where c.oid in (select embedd.table_tree(code_risk.relation))
    union
    -- Who may create triggers may run code as well. A worker's role has no rights that such a role could not get from the
    -- owner in this way; a superuser has.
    select acl.grantee, true
    from pg_class c
    cross join lateral aclexplode(c.relacl) as acl
    where c.oid in (select embedd.table_tree(code_risk.relation))
      and acl.privilege_type = 'TRIGGER'
      and acl.grantee <> c.relowner
  ) as owners
  cross join lateral (
    select case when owners.relowner = 0 then 'public' else pg_get_userbyid(owners.relowner)::text end) as role (name)
  -- Code can RESET ROLE to the role that logged in.
  cross join (select current_user as name union select session_user) as own
  cross join lateral (
    select case
      when owners.granted and not (select r.rolsuper from pg_roles r where r.rolname = own.name) then null
      when owners.relowner = 0 then format('superuser %I', own.name)
      when not embedd.is_trusted(owners.relowner, own.name) then embedd.rights_beyond(owners.relowner, own.name) end
    offset 0) as gained (rights)
  where gained.rights is not null
  order by role.name
  limit 1
$$;
comment on function embedd.code_risk(regclass) is
  'Why the current role does not touch a table: whose code would gain rights, which, and what to type. NULL: it may.';

create function embedd.refuse_code_risk(relation regclass) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  risk record;
begin
  select * into risk from embedd.code_risk(relation);
  if risk.what is not null then
    perform embedd.refuse('untrusted_owner', format('%s: %s', embedd.name_of(relation), risk.what),
      format('select embedd.trust_owner(%L);  -- or log in as %s', risk.owner, quote_ident(risk.owner)),
      format('embedd trust %1$s  # or log in as %1$s', embedd.shell_word(risk.owner)));
  end if;
end $$;
comment on function embedd.refuse_code_risk(regclass) is 'Refuses to read a table whose owner would gain rights by its code.';

create function embedd.trust_owner(role text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  trusted constant regrole := embedd.resolve_role(role, 'select rolname from pg_roles;');
begin
  delete from embedd.trusted_owners t where not exists (select from pg_roles r where r.oid = t.owner);
  insert into embedd.trusted_owners values (trusted) on conflict do nothing;
  perform embedd.set_row_security();
  -- Workers had no rights on its tables as long as they worked on those of others. Where this role may not grant them, status
  -- and doctor say so.
  if pg_has_role(current_user, trusted, 'USAGE') then
    perform embedd.grant_pipeline(p, w.role)
    from embedd.pipelines p
    join pg_class c on c.oid = p.relation and c.relowner = trusted
    cross join lateral embedd.worker_roles_for(p.relation) as w (role)
    where embedd.pipeline_is_whole(p);
  end if;
end $$;
comment on function embedd.trust_owner(text) is
  'Lets code that this role attaches to its tables, such as triggers, run with the rights of workers and of superusers who use '
  'embedd. revoke_trust takes it back.';

create function embedd.revoke_trust(role text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  delete from embedd.trusted_owners t
  where t.owner = embedd.resolve_role(role, 'select rolname from pg_roles;');
  perform embedd.set_row_security();
end $$;
comment on function embedd.revoke_trust(text) is 'Takes back embedd.trust_owner.';
