--! Previous: sha1:4ad949d3fe8f4d31dda9e43bc4239608f5560aab
--! Hash: sha1:8b921b0b62d37ef97071644b6035520fb5fcdce0
--! Message: roles

-- Roles. Only the owner of a table can watch it. A worker needs only this on the table: SELECT on the key, content,
-- embedding and model columns, and UPDATE on the last two.

create function embedd.worker_roles() returns setof regrole
language sql stable as $$
  select distinct acl.grantee::regrole
  from pg_class c, aclexplode(c.relacl) as acl
  where c.oid = 'embedd.leases'::regclass
    and acl.privilege_type = 'INSERT'
    and acl.grantee <> c.relowner
    and acl.grantee <> 0
$$;
comment on function embedd.worker_roles() is 'The roles that embedd.grant_worker was called with.';

create function embedd.grant_pipeline(pipeline embedd.pipelines, role regrole) returns void
language plpgsql as $$
declare
  schema_name name := (
    select n.nspname
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.oid = pipeline.relation);
  needed record;
begin
  if not has_schema_privilege(role, schema_name, 'USAGE') then
    execute format('grant usage on schema %I to %s', schema_name, role);
    insert into embedd.grants
    values (pipeline.id, role, 'USAGE', schema_name)
    on conflict do nothing;
  end if;
  for needed in
    select distinct name, privilege
    from (
      select unnest(pipeline.key_columns || pipeline.content_columns
        || array[pipeline.embedding_column, pipeline.model_column]) as name, 'SELECT' as privilege
      union all
      select unnest(array[pipeline.embedding_column, pipeline.model_column]), 'UPDATE') as columns
    where not has_column_privilege(role, pipeline.relation, name, privilege)
  loop
    execute format('grant %s (%I) on %s to %s', needed.privilege, needed.name, pipeline.relation, role);
    insert into embedd.grants
    values (pipeline.id, role, needed.privilege, needed.name)
    on conflict do nothing;
  end loop;
end $$;
comment on function embedd.grant_pipeline(embedd.pipelines, regrole) is
  'Grants what a worker needs on one table, and records it in embedd.grants.';

-- The table, the column, the schema or the role may be gone; PostgreSQL has then revoked the privilege.
create function embedd.undo_grant(given embedd.grants) returns void
language plpgsql as $$
declare
  statement text;
begin
  if given.privilege = 'USAGE' then
    select format('revoke usage on schema %I from %I', n.nspname, r.rolname) into statement
    from pg_namespace n, pg_roles r
    where n.nspname = given.object_name and r.oid = given.grantee;
  else
    select format('revoke %s (%I) on %I.%I from %I', given.privilege, a.attname, n.nspname, c.relname, r.rolname)
    into statement
    from embedd.pipelines p
    join pg_class c on c.oid = p.relation
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attname = given.object_name and not a.attisdropped
    join pg_roles r on r.oid = given.grantee
    where p.id = given.pipeline_id;
  end if;
  if statement is not null then
    execute statement;
  end if;
end $$;
comment on function embedd.undo_grant(embedd.grants) is 'Revokes one privilege that embedd granted.';

create function embedd.revoke_pipeline(pipeline embedd.pipelines) returns void
language plpgsql as $$
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
      where n.nspname = given.object_name and p.id <> pipeline.id
      limit 1;
      if heir is not null then
        insert into embedd.grants
        values (heir, given.grantee, 'USAGE', given.object_name)
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

create function embedd.grant_worker(role text) returns void
language plpgsql as $$
declare
  target regrole := to_regrole(quote_ident(role));
begin
  if target is null then
    perform embedd.refuse('no_such_role', format('there is no role %I', role), format('CREATE ROLE %I LOGIN;', role));
  end if;
  execute format('grant usage on schema embedd to %s', target);
  execute format('grant select on embedd.pipelines, embedd.grants, embedd.status, embedd.workers to %s', target);
  execute format('grant update (error, caught_up_at, served_model, served_by, wait_reason, wait_until, reembed,
    gap, refresh_started_at, refresh_cursor, refreshed) on embedd.pipelines to %s', target);
  execute format('grant select, insert, update, delete
    on embedd.leases, embedd.failures, embedd.usage, embedd.vectors, embedd.refresh_windows to %s', target);
  execute format('grant usage on sequence embedd.worker_ids to %s', target);
  perform embedd.grant_pipeline(p, target)
  from embedd.pipelines p
  where embedd.pipeline_is_whole(p);
end $$;
comment on function embedd.grant_worker is
  'Lets a role run the worker, for all present and future pipelines: '
  'SELECT on the key, content, embedding and model columns, UPDATE on the last two.';

create function embedd.revoke_worker(role text) returns void
language plpgsql as $$
declare
  target regrole := to_regrole(quote_ident(role));
  given embedd.grants;
begin
  if target is null then
    perform embedd.refuse('no_such_role', format('there is no role %I', role), 'psql -c "\du"');
  end if;
  for given in
    delete from embedd.grants g
    where g.grantee = target
    returning *
  loop
    perform embedd.undo_grant(given);
  end loop;
  execute format('revoke all on all tables in schema embedd from %s', target);
  execute format('revoke all on all sequences in schema embedd from %s', target);
  execute format('revoke all on schema embedd from %s', target);
end $$;
comment on function embedd.revoke_worker is 'Revokes what embedd.grant_worker granted.';
