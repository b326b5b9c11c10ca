--! Previous: sha1:55e228afed1a1ef8d6943a61e3e30fb1afc30efd
--! Hash: sha1:84eb85b6bc39bca488e2d74861eb77f674726db5
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
    values (pipeline.id, role, 'USAGE', null)
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

create function embedd.revoke_pipeline(pipeline embedd.pipelines) returns void
language plpgsql as $$
declare
  given embedd.grants;
  schema_id oid := (select relnamespace from pg_class where oid = pipeline.relation);
begin
  for given in
    delete from embedd.grants g
    where g.pipeline_id = pipeline.id
    returning *
  loop
    if given.column_name is null then
      -- Another pipeline in the schema may still need it.
      if exists (
          select from embedd.pipelines p
          join pg_class c on c.oid = p.relation
          where c.relnamespace = schema_id and p.id <> pipeline.id) then
        insert into embedd.grants
        select p.id, given.grantee, 'USAGE', null
        from embedd.pipelines p
        join pg_class c on c.oid = p.relation
        where c.relnamespace = schema_id and p.id <> pipeline.id
        limit 1
        on conflict do nothing;
      else
        execute format('revoke usage on schema %s from %s', schema_id::regnamespace, given.grantee);
      end if;
    elsif exists (
      select from pg_attribute
      where attrelid = pipeline.relation and attname = given.column_name and not attisdropped) then
      execute format('revoke %s (%I) on %s from %s',
        given.privilege, given.column_name, pipeline.relation, given.grantee);
      -- Two pipelines on one table share key columns.
      perform embedd.grant_pipeline(p, given.grantee)
      from embedd.pipelines p
      where p.relation = pipeline.relation and p.id <> pipeline.id;
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
    if given.column_name is null then
      execute (
        select format('revoke usage on schema %s from %s', c.relnamespace::regnamespace, target)
        from embedd.pipelines p
        join pg_class c on c.oid = p.relation
        where p.id = given.pipeline_id);
    else
      execute (
        select format('revoke %s (%I) on %s from %s', given.privilege, given.column_name, p.relation, target)
        from embedd.pipelines p
        where p.id = given.pipeline_id);
    end if;
  end loop;
  execute format('revoke all on all tables in schema embedd from %s', target);
  execute format('revoke all on all sequences in schema embedd from %s', target);
  execute format('revoke all on schema embedd from %s', target);
end $$;
comment on function embedd.revoke_worker is 'Revokes what embedd.grant_worker granted.';
