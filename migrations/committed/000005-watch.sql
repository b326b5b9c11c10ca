--! Previous: sha1:03ccaf92ee7eddd994af0c8146c901a3ebf4be5a
--! Hash: sha1:7c5320a6e287acf22060839fd8a5f72f2a417632
--! Message: watch

-- Watching and unwatching a table. Every check runs before the first change.

-- Drops the vector that a new text outdates. An application that saves whole rows also writes the row's old vector and
-- model back, so a vector is trusted only if the writer names another model than before, and one that embedd has never
-- used here: a former model means that the application read the row before the model was switched.
--
-- The arguments are the names of the embedding and model columns, so the trigger means the same in every database that
-- a dump is restored into. It must never fail a writer's statement: if anything is missing, the row stays as it is.
-- It runs as embedd's owner to read the current model, so it must not run code of the table's owner: it checks the
-- types of both columns, compares bytes, and never casts the row.
--
-- A third argument says what the WHEN of the trigger could not tell: whether another trigger changed the text ('others'),
-- or whether the vector changed although the text did not ('save'). The columns follow whose values must be read. A text
-- that cannot be read counts as changed.
--
-- The usual names are assigned directly. jsonb_populate_record() copies the row with all its TOASTed values: 7 ms per
-- row instead of 0.06 ms where another column holds 1 MB.
create function embedd.tg_forget_vector__before_update() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp as $$
declare
  names text[] := array[tg_argv[0], tg_argv[1]];
  content text[] := coalesce(tg_argv[3:], '{}');
  fits boolean;
  usual boolean;
  changed boolean := tg_nargs < 3;
  named_before text;
  named text;
begin
  -- A text that the statement does not name is changed by triggers of the application alone. Replication names no column.
  if tg_argv[2] = 'others'
     and current_setting('session_replication_role') <> 'replica'
     and not exists (
       select from pg_trigger t
       where t.tgrelid = tg_relid
         and (t.tgtype & 19) = 19 /* row, before, update */
         and not t.tgisinternal
         and t.tgname not like 'zzz\_embedd\_%') then
    return new;
  end if;
  if cardinality(content) > 0 then
    for attempt in 1 .. 2 loop
      begin
        execute (
          select format('select row(%s)::record operator(pg_catalog.*<>) row(%s)::record',
            string_agg(format('($1).%I', c), ', '), string_agg(format('($2).%I', c), ', '))
          from unnest(content) c)
        into changed using old, new;
        exit;
      exception
        when undefined_column then
          changed := true;
          select embedd.source_columns(p.relation,
              coalesce(embedd.column_names(p.relation, p.content_attnums), p.content_columns))
          into content
          from embedd.pipelines p
          where p.id::text = substring(tg_name from '^zzz_embedd_([0-9]+)__')
            and (p.relation = tg_relid or p.relation in (select pg_partition_ancestors(tg_relid)));
          exit when content is null;
        when others then
          changed := true;
          exit;
      end;
    end loop;
  end if;
  -- Most applications that save whole rows change nothing, so this comes before the catalog is read.
  if not changed and names = array['embedding', 'embedding_model'] then
    if row(old.embedding)::record operator(pg_catalog.*=) row(new.embedding)::record then
      return new;
    end if;
  end if;
  for attempt in 1 .. 2 loop
    select count(*) = 2 into fits
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    where a.attrelid = tg_relid
      and (
        (a.attname = names[1]
          and t.typname in ('vector', 'halfvec')
          and t.typnamespace = (select e.extnamespace from pg_extension e where e.extname = 'vector'))
        or (a.attname = names[2] and t.oid in ('text'::regtype, 'varchar'::regtype)));
    exit when fits;
    -- The columns were renamed.
    select coalesce(
        case when p.relation_identity = embedd.table_identity(p.relation)
          then embedd.column_names(p.relation, array[p.embedding_attnum, p.model_attnum]) end,
        array[p.embedding_column, p.model_column])
    into names
    from embedd.pipelines p
    where p.id::text = substring(tg_name from '^zzz_embedd_([0-9]+)__')
      and (p.relation = tg_relid or p.relation in (select pg_partition_ancestors(tg_relid)));
  end loop;
  if fits is not true then
    return new;
  end if;
  usual := names[1] = 'embedding' and names[2] = 'embedding_model';
  if not changed and tg_argv[2] = 'save' then
    begin
      if usual then
        changed := row(old.embedding)::record operator(pg_catalog.*<>) row(new.embedding)::record;
      else
        execute format('select row(($1).%1$I)::record operator(pg_catalog.*<>) row(($2).%1$I)::record', names[1])
        into changed using old, new;
      end if;
    exception when others then
      changed := true;
    end;
  end if;
  if changed is false then
    return new;
  end if;
  if usual then
    named_before := old.embedding_model;
    named := new.embedding_model;
  else
    execute format('select ($1).%1$I, ($2).%1$I', names[2]) into named_before, named using old, new;
  end if;
  if named <> coalesce(named_before, '') and not exists (
    select from embedd.pipelines p
    where p.embedding_column in (names[1], tg_argv[0])
      and (coalesce(p.model, p.served_model) = named or named = any (p.former_models))
      and (p.relation = tg_relid or p.relation in (select pg_partition_ancestors(tg_relid)))) then
    return new;
  end if;
  if usual then
    new.embedding := null;
    new.embedding_model := null;
  else
    new := jsonb_populate_record(new, jsonb_build_object(names[1], null, names[2], null));
  end if;
  return new;
exception when others then
  return new;
end $$;
comment on function embedd.tg_forget_vector__before_update() is
  'Sets the columns in its first two arguments to NULL, unless the writer names a model that embedd has never used here.';

create function embedd.create_triggers(pipeline embedd.pipelines) returns void
language plpgsql as $$
declare
  change record;
  partitioned boolean := (select relkind = 'p' from pg_class where oid = pipeline.relation);
  sources constant text[] := embedd.source_columns(pipeline.relation, pipeline.content_columns);
  source_list constant text := (select string_agg(quote_ident(c), ', ') from unnest(sources) c);
  named constant text := format('%L, %L', pipeline.embedding_column, pipeline.model_column);
  to_read constant text := (select string_agg(quote_literal(c), ', ') from unnest(sources) c);
  new_trigger record;
begin
  select * into change from embedd.content_change(pipeline.relation, pipeline.content_columns);
  perform embedd.drop_strays(pipeline.relation);
  -- Rows inserted directly into a partition do not fire the parent's statement triggers.
  execute format('create trigger %I after insert on %s for each %s execute function embedd.tg_wake__after_write(%s)',
    format('zzz_embedd_%s__after_insert', pipeline.id),
    pipeline.relation,
    case when partitioned then format('row when (new.%I is null)', pipeline.embedding_column) else 'statement' end,
    pipeline.id);
  -- before_save: two applications save the same new text, and the second brings the old text's vector back. Unlike a
  -- worker, it names a column of the text. A replicated vector names all columns, so this trigger ignores replicated
  -- changes. Those that follow an edit do not, and they need not wake a worker: its poll finds the row.
  for new_trigger in
    select *
    from (values
      ('before_update', '', change.certain, named, true),
      ('before_unread', '', format('(%s) is not true and (%s)', change.certain, change.unread),
        format('%s, %L, %s', named, 'others', to_read), true),
      ('before_save', 'of ' || source_list, format('(%s or %s) is not true', change.certain, change.unread),
        format('%s, %L', named, 'save'), false),
      ('before_save_unread', 'of ' || source_list, format('(%s) is not true and (%s)', change.certain, change.unread),
        format('%s, %L, %s', named, 'save', to_read), false)) as t (event, columns, condition, arguments, replicated)
  loop
    execute format('create trigger %I before update %s on %s for each row when (new.%I is not null and (%s)) '
      'execute function embedd.tg_forget_vector__before_update(%s)',
      format('zzz_embedd_%s__%s', pipeline.id, new_trigger.event), new_trigger.columns, pipeline.relation,
      pipeline.embedding_column, new_trigger.condition, new_trigger.arguments);
    if new_trigger.replicated then
      execute format('alter table %s enable always trigger %I',
        pipeline.relation, format('zzz_embedd_%s__%s', pipeline.id, new_trigger.event));
    end if;
  end loop;
  execute format('create trigger %I after update on %s for each row when (%s) execute function embedd.tg_wake__after_write(%s)',
    format('zzz_embedd_%s__after_update', pipeline.id),
    pipeline.relation,
    format('new.%1$I is null and (old.%1$I is not null or %2$s or %3$s)',
      pipeline.embedding_column, change.certain, change.resized),
    pipeline.id);
end $$;
comment on function embedd.create_triggers(embedd.pipelines) is
  'Creates the triggers that wake workers and drop outdated vectors.';

create function embedd.stray_triggers() returns table (relation regclass, trigger_name name)
language sql stable as $$
  select t.tgrelid::regclass, t.tgname
  from pg_trigger t
  join pg_proc f on f.oid = t.tgfoid
  where f.pronamespace = 'embedd'::regnamespace
    and f.proname in ('tg_wake__after_write', 'tg_forget_vector__before_update')
    and t.tgparentid = 0
    and not exists (
      select from embedd.pipelines p
      where p.relation = t.tgrelid
        and t.tgname like format('zzz\_embedd\_%s\_\_%%', p.id))
$$;
comment on function embedd.stray_triggers() is
  'Triggers of embedd that belong to no pipeline, such as those of a table restored from another database.';

create function embedd.drop_strays(relation regclass) returns integer
language plpgsql as $$
declare
  stray text;
  dropped integer := 0;
begin
  for stray in
    select s.trigger_name from embedd.stray_triggers() s where s.relation = drop_strays.relation
  loop
    execute format('drop trigger %I on %s', stray, relation);
    dropped := dropped + 1;
  end loop;
  for stray in
    select format('%I.%I', n.nspname, x.relname)
    from pg_index i
    join pg_class x on x.oid = i.indexrelid and not x.relispartition
    join pg_namespace n on n.oid = x.relnamespace
    where x.relname ~ '^embedd_[0-9]+_pending(_next)?(_[0-9]+)*$'
      and x.relnamespace = (select c.relnamespace from pg_class c where c.oid = drop_strays.relation)
      and (i.indrelid = relation) <> exists (
        select from embedd.pipelines p
        where p.relation = drop_strays.relation
          and x.relname ~ ('^' || embedd.pending_index_name(p.id) || '(_next)?(_[0-9]+)*$'))
  loop
    execute format('drop index %s', stray);
    dropped := dropped + 1;
  end loop;
  return dropped;
end $$;
comment on function embedd.drop_strays(regclass) is
  'Drops embedd''s triggers and indexes of pending rows that belong to no pipeline of the table, and indexes of other '
  'tables that took the name of one of its indexes from a dump. Returns their number.';

create function embedd.drop_ghosts(relation regclass) returns void
language plpgsql as $$
declare
  ghost embedd.pipelines;
begin
  for ghost in
    select p.*
    from embedd.pipelines p
    join pg_class c on c.oid = drop_ghosts.relation and c.relname = p.relation_name
    join pg_namespace n on n.oid = c.relnamespace and n.nspname = p.relation_schema
    where not exists (select from pg_class live where live.oid = p.relation)
      -- Its pipeline takes it along.
      and p.shadow_of is null
  loop
    perform embedd.unwatch(ghost.relation::oid::text, ghost.embedding_column);
  end loop;
end $$;
comment on function embedd.drop_ghosts(regclass) is 'Drops the pipelines of a dropped table that had this table''s name.';

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
end $$;
comment on function embedd.drop_triggers(embedd.pipelines) is 'Drops the triggers of a pipeline.';

-- Builds that were cut off leave indexes of the next definition, and of partitions that are not attached yet.
create function embedd.drop_indexes(pipeline embedd.pipelines) returns void
language plpgsql as $$
declare
  index_name text;
begin
  for index_name in
    select format('%I.%I', n.nspname, x.relname)
    from embedd.table_tree(pipeline.relation) r
    join pg_index i on i.indrelid = r
    join pg_class x on x.oid = i.indexrelid and not x.relispartition
    join pg_namespace n on n.oid = x.relnamespace
    where x.relname ~ format('^(%s|%s)(_next)?(_[0-9]+)*$',
      embedd.pending_index_name(pipeline.id), embedd.vector_index_name(pipeline.id))
  loop
    execute format('drop index %s', index_name);
  end loop;
end $$;
comment on function embedd.drop_indexes(embedd.pipelines) is
  'Drops the indexes of a pipeline on its table and on the partitions, finished or not.';

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
  vector_schema name := (select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace
    where e.extname = 'vector');
begin
  perform embedd.check_relation(target);
  execute format('alter table %s add column if not exists %I %I.vector(%s), add column if not exists %I text',
    target, embedding_column, vector_schema, dimensions, coalesce(model_column, embedding_column || '_model'));
end $$;
comment on function embedd.add_columns is
  'Adds the embedding and model columns if they are missing. Rewrites no row.';

create function embedd.resolve_gap(pipeline_id integer, existing text) returns void
language plpgsql as $$
begin
  if existing is null or existing not in ('keep', 'refresh') then
    perform embedd.refuse('existing_vectors',
      format('there is no choice %L for existing vectors', existing),
      'keep trusts them, refresh re-embeds their rows');
  elsif existing = 'keep' then
    update embedd.pipelines p set gap = null where p.id = resolve_gap.pipeline_id;
    return;
  end if;
  delete from embedd.refresh_windows w where w.pipeline_id = resolve_gap.pipeline_id;
  -- Rows that are dead with an old vector get new attempts.
  delete from embedd.failures f where f.pipeline_id = resolve_gap.pipeline_id and f.stale;
  update embedd.pipelines p
  set gap = null, refresh_started_at = now(), refresh_cursor = null, refreshed = 0
  where p.id = resolve_gap.pipeline_id;
end $$;
comment on function embedd.resolve_gap(integer, text) is
  'Ends a gap. keep: every vector that is there is trusted from now on. refresh: workers re-embed every row that has a '
  'vector, after all pending rows; old vectors serve until new ones replace them. A refresh that runs starts again.';

create function embedd.check_existing(relation regclass, embedding_column text, existing text) returns void
language plpgsql as $$
declare
  found boolean;
begin
  if existing is not null then
    return;
  end if;
  execute format('select exists (select from %s where %I is not null)', relation, embedding_column) into found;
  if found then
    perform embedd.refuse('existing_vectors',
      format('column %I of %s has vectors, and embedd cannot know whether they belong to the texts as they are now',
        embedding_column, relation),
      E'existing => ''refresh''  -- re-embeds their rows in the background\nexisting => ''keep''  -- trusts them');
  end if;
end $$;
comment on function embedd.check_existing(regclass, text, text) is
  'Refuses to guess what becomes of vectors that are there already.';

-- Takes the lock first: a batch in flight writes before it, or finds afterwards that its definition is not the current one.
create function embedd.redefine(
  pipeline embedd.pipelines,
  content_columns text[],
  template text,
  create_index boolean,
  existing text
) returns void
language plpgsql
set lock_timeout = '10s'
set client_min_messages = warning as $$
declare
  columns_change constant boolean := content_columns <> pipeline.content_columns;
  schema_name name;
begin
  if pipeline.shadow_of is not null or exists (select from embedd.pipelines p where p.shadow_of = pipeline.id) then
    perform embedd.refuse('switching',
      format('%s is being switched to another model', pipeline.relation),
      format('embedd switch-model %s --status', pipeline.relation));
  end if;
  perform embedd.check_existing(pipeline.relation, pipeline.embedding_column, existing);
  execute format('lock table %s in %s mode', pipeline.relation,
    case when columns_change then 'access exclusive' else 'share row exclusive' end);
  if columns_change then
    perform embedd.drop_triggers(pipeline);
    perform embedd.revoke_pipeline(pipeline);
  end if;
  update embedd.pipelines p
  set content_columns = redefine.content_columns, template = redefine.template
  where p.id = pipeline.id
  returning * into pipeline;
  if columns_change then
    perform embedd.create_triggers(pipeline);
    perform embedd.grant_pipeline(pipeline, role) from embedd.worker_roles() as role;
    perform embedd.take_back_unneeded();
    select n.nspname into schema_name
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.oid = pipeline.relation;
    execute format('drop index if exists %I.%I', schema_name, embedd.pending_index_name(pipeline.id));
    if create_index then
      execute format('create index %I on %s %s',
        embedd.pending_index_name(pipeline.id), pipeline.relation, embedd.pending_index_definition(pipeline));
    end if;
  end if;
  -- They are about texts that are made otherwise now.
  delete from embedd.failures f where f.pipeline_id = pipeline.id;
  if existing is not null then
    perform embedd.resolve_gap(pipeline.id, existing);
  end if;
end $$;
comment on function embedd.redefine is
  'Changes what the text of a pipeline is made of. Without create_index, the caller supplies the index of pending rows.';

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
  create_index boolean default true,
  existing text default null
) returns integer
language plpgsql
set lock_timeout = '10s'
set client_min_messages = warning as $$
declare
  target regclass := embedd.resolve(relation);
  -- named after the embedding column by default
  model_name_column text := coalesce(model_column, embedding_column || '_model');
  watched embedd.pipelines;
  pipeline embedd.pipelines;
begin
  if not has_table_privilege('embedd.pipelines', 'INSERT') then
    perform embedd.check_may_watch();
    -- With the caller's own rights, because reading a table may run its owner's code.
    perform embedd.check_relation(target);
    perform embedd.check_embedding_column(target, embedding_column);
    perform embedd.check_existing(target, embedding_column, existing);
    return embedd.watch_for_owner(target, content_columns, embedding_column, model_column, template, model, index_method,
      create_index, coalesce(existing, 'keep'));
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
  perform embedd.drop_ghosts(target);
  select * into watched
  from embedd.pipelines p
  where p.relation = target and p.embedding_column = watch.embedding_column;
  if found and not embedd.pipeline_is_whole(watched) then
    -- Its columns were renamed or dropped, and this call gives the new ones.
    perform embedd.unwatch(relation, embedding_column);
  elsif found then
    if (content_columns, template) is not distinct from (watched.content_columns, watched.template)
       or model_name_column <> watched.model_column
       or coalesce(model, watched.model) is distinct from watched.model
       or coalesce(index_method, watched.index_method) is distinct from watched.index_method then
      perform embedd.refuse('already_watched',
        format('column %I of %s is already watched, by pipeline %s', embedding_column, target, watched.id),
        format('embedd unwatch %s  # or name another column with --embedding', embedd.shell_word(target::text)));
    end if;
    perform embedd.redefine(watched, content_columns, template, create_index, existing);
    return watched.id;
  end if;
  perform embedd.check_existing(target, embedding_column, existing);
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
  if existing is not null then
    perform embedd.resolve_gap(pipeline.id, existing);
  end if;
  return pipeline.id;
end $$;
comment on function embedd.watch is
  'Watches a table: checks it, creates the triggers and the partial index, and returns the id of the pipeline. '
  'Rows without a vector are embedded too. Where vectors exist, existing is required: keep trusts them, refresh embeds '
  'their rows again. For a watched column, other content columns or another template change the pipeline in place. '
  'create_index builds the index under a lock that blocks writers; '
  'the command "embedd watch" builds it CONCURRENTLY instead.';

create function embedd.unwatch(relation text, embedding_column text default null, drop_columns boolean default false)
returns integer
language plpgsql
set lock_timeout = '10s'
set client_min_messages = warning as $$
declare
  target regclass := embedd.resolve_watched(relation);
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
    dropped := dropped + 1;
    -- The table is gone.
    continue when schema_name is null;
    perform embedd.drop_triggers(pipeline);
    perform embedd.drop_indexes(pipeline);
    if drop_columns then
      execute format('alter table %s drop column if exists %I, drop column if exists %I',
        target, pipeline.embedding_column, pipeline.model_column);
    end if;
  end loop;
  perform embedd.take_back_unneeded();
  if embedd.drop_strays(target) + dropped = 0 then
    perform embedd.refuse('not_watched',
      format('%s is not watched', target),
      'embedd status');
  end if;
  return dropped;
end $$;
comment on function embedd.unwatch is
  'Unwatches a table: drops embedd''s triggers and indexes and revokes its grants. The vectors stay, unless drop_columns. '
  'Returns the number of pipelines removed.';

-- The pipelines that a name means: those of the table that has it, otherwise those of the table that had it.
create function embedd.repair(relation text, embedding_column text default null, existing text default null)
returns setof integer
language plpgsql
set lock_timeout = '10s'
set client_min_messages = warning as $$
declare
  target regclass;
  pipeline embedd.pipelines;
  last_name text;
  problem text;
  filled boolean;
begin
  perform embedd.follow_names();
  target := embedd.resolve(relation);
  for pipeline in
    select *
    from embedd.pipelines p
    where p.relation = embedd.resolve_watched(repair.relation)
      and p.embedding_column = coalesce(repair.embedding_column, p.embedding_column)
    order by p.id
  loop
    last_name := format('%I.%I', pipeline.relation_schema, pipeline.relation_name);
    problem := coalesce(pipeline.gap, embedd.table_problem(pipeline), embedd.find_gap(pipeline));
    perform embedd.check_relation(target);
    perform embedd.check_content_columns(target, pipeline.content_columns,
      array[pipeline.embedding_column, pipeline.model_column]);
    perform embedd.check_embedding_column(target, pipeline.embedding_column);
    perform embedd.check_model_column(target, pipeline.model_column);
    execute format('select exists (select from %s where %I is not null)', target, pipeline.embedding_column) into filled;
    if problem is not null and filled and existing is null then
      perform embedd.refuse('existing_vectors',
        format('vectors of %s may belong to earlier texts: %s', target, problem),
        format(
          E'embedd repair %1$s --existing refresh  # re-embeds their rows\n'
          'embedd repair %1$s --existing keep  # trusts them',
          embedd.shell_word(target::text)));
    end if;
    if pipeline.relation <> target then
      perform embedd.revoke_pipeline(pipeline);
      perform embedd.drop_triggers(pipeline);
      -- A refresh that runs starts again, because its ranges are of another table's keys.
      delete from embedd.refresh_windows w where w.pipeline_id = pipeline.id;
      update embedd.pipelines p set refresh_cursor = null, refreshed = 0 where p.id = pipeline.id;
    end if;
    update embedd.pipelines p
    set relation = target, key_columns = embedd.primary_key(target), error = null
    where p.id = pipeline.id
    returning * into pipeline;
    perform embedd.drop_triggers(pipeline);
    perform embedd.create_triggers(pipeline);
    perform embedd.grant_pipeline(pipeline, role) from embedd.worker_roles() as role;
    perform embedd.resolve_gap(pipeline.id, case when filled and existing is not null then existing else 'keep' end);
    -- Rows that became pending without triggers need not wait for the poll.
    perform pg_notify('embedd', pipeline.id::text);
    return next pipeline.id;
  end loop;
  if not found then
    perform embedd.refuse('not_watched',
      format('%s is not watched', target),
      'embedd status');
  end if;
end $$;
comment on function embedd.repair(text, text, text) is
  'Restores the triggers and privileges of a watched table, also after it was replaced by another with the same name. '
  'Where vectors exist after a gap, existing is required: keep trusts them, refresh re-embeds their rows. '
  'Returns the pipelines, whose indexes "embedd repair" builds.';

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
  create_index boolean,
  existing text
) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform embedd.check_owner(relation);
  -- To look for vectors would read the table with embedd's rights, which may run its owner's code.
  if existing is null then
    perform embedd.refuse('existing_vectors',
      format('embedd.watch_for_owner does not look whether column %I of %s has vectors', embedding_column, relation),
      'call embedd.watch, which does; or existing => ''refresh''; or existing => ''keep''');
  end if;
  return embedd.watch(relation::text, content_columns, embedding_column, model_column, template, model, index_method,
    create_index, existing);
end $$;
comment on function embedd.watch_for_owner is
  'embedd.watch for a role that embedd.grant_owner was called with. existing is required.';

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
