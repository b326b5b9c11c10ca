--! Previous: sha1:03e239c4f5ac4c1db0ed2d072d539ff232323197
--! Hash: sha1:62afffc35bd92f1eee99c386b2edfe445ae45b9b
--! Message: watch

-- Watching and unwatching a table. Every check runs before the first change.

create function embedd.create_triggers(pipeline embedd.pipelines) returns void
language plpgsql as $$
declare
  changed text := embedd.content_changed(pipeline.relation, pipeline.content_columns);
  vector_schema name := (select extnamespace::regnamespace::name from pg_extension where extname = 'vector');
  partitioned boolean := (select relkind = 'p' from pg_class where oid = pipeline.relation);
begin
  -- Rows inserted directly into a partition do not fire the parent's statement triggers.
  execute format('create trigger %I after insert on %s for each %s execute function embedd.tg_wake__after_write(%s)',
    format('zzz_embedd_%s__after_insert', pipeline.id),
    pipeline.relation,
    case when partitioned then format('row when (new.%I is null)', pipeline.embedding_column) else 'statement' end,
    pipeline.id);
  execute format($sql$
    create or replace function embedd.%I() returns trigger language plpgsql as $body$
    begin
      new.%I := null;
      new.%I := null;
      return new;
    end $body$ $sql$,
    format('tg_pipeline_%s__before_update', pipeline.id), pipeline.embedding_column, pipeline.model_column);
  execute format('create trigger %I before update on %s for each row when (%s) execute function embedd.%I()',
    format('zzz_embedd_%s__before_update', pipeline.id),
    pipeline.relation,
    format('old.%1$I is not null and new.%1$I is not null and (%2$s) and not (old.%1$I operator(%3$I.<>) new.%1$I)',
      pipeline.embedding_column, changed, vector_schema),
    format('tg_pipeline_%s__before_update', pipeline.id));
  -- Replicated changes also outdate a vector. They need not wake a worker: its poll finds them.
  execute format('alter table %s enable always trigger %I',
    pipeline.relation, format('zzz_embedd_%s__before_update', pipeline.id));
  execute format('create trigger %I after update on %s for each row when (%s) execute function embedd.tg_wake__after_write(%s)',
    format('zzz_embedd_%s__after_update', pipeline.id),
    pipeline.relation,
    format('new.%1$I is null and (old.%1$I is not null or %2$s)', pipeline.embedding_column, changed),
    pipeline.id);
end $$;
comment on function embedd.create_triggers(embedd.pipelines) is
  'Creates the triggers that wake workers and drop outdated vectors.';

create function embedd.drop_triggers(pipeline embedd.pipelines) returns void
language plpgsql as $$
declare
  trigger_name name;
begin
  for trigger_name in
    select tgname
    from pg_trigger
    where tgrelid = pipeline.relation
      and tgparentid = 0
      and tgname like format('zzz\_embedd\_%s\_\_%%', pipeline.id)
  loop
    execute format('drop trigger %I on %s', trigger_name, pipeline.relation);
  end loop;
  execute format('drop function if exists embedd.%I()', format('tg_pipeline_%s__before_update', pipeline.id));
end $$;
comment on function embedd.drop_triggers(embedd.pipelines) is 'Drops the triggers of a pipeline, and their function.';

create function embedd.pending_index_name(pipeline_id integer) returns text
language sql immutable as $$
  select format('embedd_%s_pending', pipeline_id)
$$;
comment on function embedd.pending_index_name(integer) is 'The name of the index of pending rows.';

create function embedd.pending_index_definition(pipeline embedd.pipelines) returns text
language sql stable as $$
  select format('(%s) where %s',
    (select string_agg(quote_ident(k), ', ' order by ordinality)
      from unnest(pipeline.key_columns) with ordinality u (k, ordinality)),
    embedd.pending_predicate(pipeline.relation, pipeline.content_columns, pipeline.embedding_column))
$$;
comment on function embedd.pending_index_definition(embedd.pipelines) is
  'The part after ON table in CREATE INDEX, for the index of pending rows.';

create function embedd.vector_index_name(pipeline_id integer) returns text
language sql immutable as $$
  select format('embedd_%s_vector', pipeline_id)
$$;
comment on function embedd.vector_index_name(integer) is 'The name of the vector index that a worker builds.';

create function embedd.vector_index_definition(pipeline embedd.pipelines) returns text
language sql stable as $$
  select format('using %I (%I %I.%I)',
    pipeline.index_method, pipeline.embedding_column, n.nspname, t.typname || '_cosine_ops')
  from pg_attribute a
  join pg_type t on t.oid = a.atttypid
  join pg_namespace n on n.oid = t.typnamespace
  where a.attrelid = pipeline.relation and a.attname = pipeline.embedding_column and not a.attisdropped
$$;
comment on function embedd.vector_index_definition(embedd.pipelines) is
  'The part after ON table in CREATE INDEX, for cosine search.';

create function embedd.add_columns(relation text, embedding_column text, model_column text, dimensions integer) returns void
language plpgsql
set lock_timeout = '10s' as $$
declare
  target regclass := embedd.resolve(relation);
  vector_schema name := (select extnamespace::regnamespace::name from pg_extension where extname = 'vector');
begin
  perform embedd.check_relation(target);
  execute format('alter table %s add column if not exists %I %I.vector(%s), add column if not exists %I text',
    target, embedding_column, vector_schema, dimensions, coalesce(model_column, embedding_column || '_model'));
end $$;
comment on function embedd.add_columns is
  'Adds the embedding and model columns if they are missing. Rewrites no row.';

create function embedd.check_may_watch() returns void
language plpgsql stable as $$
begin
  if not exists (
    select from pg_proc f
    where f.pronamespace = 'embedd'::regnamespace
      and f.proname = 'watch_for_owner'
      and has_function_privilege(f.oid, 'EXECUTE')) then
    perform embedd.refuse('not_owner',
      format('role %I may not watch tables: another role migrated this schema', current_user),
      format('embedd grant --owner %I', current_user));
  end if;
end $$;
comment on function embedd.check_may_watch() is 'Refuses a role that embedd.grant_owner was not called with.';

create function embedd.watch(
  relation text,
  content_columns text[],
  embedding_column text default 'embedding',
  model_column text default null,
  template text default null,
  model text default null,
  index_method text default null,
  create_index boolean default true
) returns integer
language plpgsql
set lock_timeout = '10s'
set client_min_messages = warning as $$
declare
  target regclass := embedd.resolve(relation);
  -- named after the embedding column by default
  model_name_column text := coalesce(model_column, embedding_column || '_model');
  existing embedd.pipelines;
  pipeline embedd.pipelines;
begin
  if not has_table_privilege('embedd.pipelines', 'INSERT') then
    perform embedd.check_may_watch();
    return embedd.watch_for_owner(target, content_columns, embedding_column, model_column, template, model, index_method,
      create_index);
  end if;
  perform embedd.check_relation(target);
  perform embedd.check_content_columns(target, content_columns, array[embedding_column, model_name_column]);
  perform embedd.check_embedding_column(target, embedding_column);
  perform embedd.check_model_column(target, model_name_column);
  if embedd.later_triggers(target) is not null then
    perform embedd.refuse('later_trigger',
      format('%s has a BEFORE UPDATE trigger that runs after embedd''s and could change the text without embedd noticing: %s',
        target, embedd.later_triggers(target)),
      format('ALTER TRIGGER ... ON %s RENAME TO a_name_that_sorts_before_zzz_embedd;', target));
  end if;
  select * into existing
  from embedd.pipelines p
  where p.relation = target and p.embedding_column = watch.embedding_column;
  if found and not embedd.pipeline_is_whole(existing) then
    -- Its columns were renamed or dropped, and this call gives the new ones.
    perform embedd.unwatch(relation, embedding_column);
  elsif found then
    perform embedd.refuse('already_watched',
      format('column %I of %s is already watched, by pipeline %s', embedding_column, target, existing.id),
      format('SELECT embedd.unwatch(%L); first, or choose another embedding column', target));
  end if;
  insert into embedd.pipelines (
    relation, key_columns, content_columns, template, embedding_column, model_column, model, index_method)
  values (
    target, embedd.primary_key(target), content_columns, template, embedding_column, model_name_column, model, index_method)
  returning * into pipeline;
  perform embedd.create_triggers(pipeline);
  perform embedd.grant_pipeline(pipeline, role) from embedd.worker_roles() as role;
  if create_index then
    execute format('create index %I on %s %s',
      embedd.pending_index_name(pipeline.id), target, embedd.pending_index_definition(pipeline));
  end if;
  return pipeline.id;
end $$;
comment on function embedd.watch is
  'Watches a table: checks it, creates the triggers and the partial index, and returns the id of the pipeline. '
  'Existing rows are embedded too. create_index builds the index under a lock that blocks writers; '
  'the command "embedd watch" builds it CONCURRENTLY instead.';

create function embedd.unwatch(relation text, embedding_column text default null, drop_columns boolean default false)
returns integer
language plpgsql
set lock_timeout = '10s'
set client_min_messages = warning as $$
declare
  target regclass := embedd.resolve(relation);
  schema_name name := (
    select n.nspname
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.oid = target);
  pipeline embedd.pipelines;
  shadow record;
  dropped integer := 0;
begin
  if not has_table_privilege('embedd.pipelines', 'DELETE') then
    perform embedd.check_may_watch();
    return embedd.unwatch_for_owner(target, embedding_column, drop_columns);
  end if;
  -- Unwatching either pipeline of a running switch aborts the switch.
  for shadow in
    select s.id, s.embedding_column
    from embedd.pipelines s
    join embedd.pipelines p on p.id = s.shadow_of
    where p.relation = target
      and (unwatch.embedding_column is null or unwatch.embedding_column in (p.embedding_column, s.embedding_column))
  loop
    perform embedd.abort_switch(shadow.id);
    dropped := dropped + (shadow.embedding_column is not distinct from unwatch.embedding_column)::integer;
  end loop;
  for pipeline in
    select *
    from embedd.pipelines p
    where p.relation = target
      and p.embedding_column = coalesce(unwatch.embedding_column, p.embedding_column)
  loop
    perform embedd.revoke_pipeline(pipeline);
    delete from embedd.pipelines p where p.id = pipeline.id;
    perform embedd.drop_triggers(pipeline);
    execute format('drop index if exists %1$I.%2$I, %1$I.%3$I',
      schema_name, embedd.pending_index_name(pipeline.id), embedd.vector_index_name(pipeline.id));
    if drop_columns then
      execute format('alter table %s drop column if exists %I, drop column if exists %I',
        target, pipeline.embedding_column, pipeline.model_column);
    end if;
    dropped := dropped + 1;
  end loop;
  perform embedd.take_back_unneeded();
  if dropped = 0 then
    perform embedd.refuse('not_watched',
      format('%s is not watched', target),
      'SELECT relation, embedding_column FROM embedd.pipelines;');
  end if;
  return dropped;
end $$;
comment on function embedd.unwatch is
  'Unwatches a table: drops embedd''s triggers and indexes and revokes its grants. The vectors stay, unless drop_columns. '
  'Returns the number of pipelines removed.';

-- Owners have no rights on embedd's tables, or they could change the pipelines of others. These run as embedd's owner, for
-- tables of the session's own role alone; the DDL in them runs no code of the table's owner.
create function embedd.watch_for_owner(
  relation regclass,
  content_columns text[],
  embedding_column text,
  model_column text,
  template text,
  model text,
  index_method text,
  create_index boolean
) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform embedd.check_owner(relation);
  return embedd.watch(relation::text, content_columns, embedding_column, model_column, template, model, index_method,
    create_index);
end $$;
comment on function embedd.watch_for_owner is 'embedd.watch for a role that embedd.grant_owner was called with.';

create function embedd.unwatch_for_owner(relation regclass, embedding_column text, drop_columns boolean) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform embedd.check_owner(relation);
  return embedd.unwatch(relation::text, embedding_column, drop_columns);
end $$;
comment on function embedd.unwatch_for_owner is 'embedd.unwatch for a role that embedd.grant_owner was called with.';

revoke execute on function embedd.watch_for_owner, embedd.unwatch_for_owner from public;

select embedd.watch('embedd.chunks', array['content']);
