--! Previous: sha1:89c839cd40e97a53482ecbd64f3284bd2f8594d4
--! Hash: sha1:71b8eee3785cf9ea4ac46a6f6106186e103e2083
--! Message: watch

set local search_path = pg_catalog, pg_temp;

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
-- row instead of 0.06 ms where another column holds 1 MB. For the same reason EXECUTE gets a copy of NEW: it reads all
-- values of its argument into memory, and as those of NEW they would be compressed and stored apart once more.
create function embedd.tg_forget_vector__before_update() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp as $$
declare
  names text[] := array[tg_argv[0], tg_argv[1]];
  content text[] := coalesce(tg_argv[3:], '{}');
  edited record;
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
         and t.tgfoid <> 'embedd.tg_forget_vector__before_update()'::regprocedure) then
    return new;
  end if;
  if cardinality(content) > 0 then
    edited := new;
    for attempt in 1 .. 2 loop
      begin
        execute (
          select format('select row(%s)::record operator(pg_catalog.*<>) row(%s)::record',
            string_agg(format('($1).%I', c), ', '), string_agg(format('($2).%I', c), ', '))
          from unnest(content) c)
        into changed using old, edited;
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
  -- The usual names cost 9 us instead of 26. Most applications that save whole rows change nothing, so that comes first.
  if names = array['embedding', 'embedding_model'] then
    begin
      if not changed and row(old.embedding)::record operator(pg_catalog.*=) row(new.embedding)::record then
        return new;
      end if;
      fits := pg_typeof(new.embedding_model) in ('text'::regtype, 'varchar'::regtype) and exists (
        select from pg_type t
        where t.oid = pg_typeof(new.embedding)
          and t.typname in ('vector', 'halfvec')
          and t.typnamespace = (select e.extnamespace from pg_extension e where e.extname = 'vector'));
    exception when undefined_column then
      null;
    end;
  end if;
  for attempt in 1 .. 2 loop
    exit when fits;
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
  if not usual then
    edited := new;
  end if;
  if not changed and tg_argv[2] = 'save' then
    begin
      if usual then
        changed := row(old.embedding)::record operator(pg_catalog.*<>) row(new.embedding)::record;
      else
        execute format('select row(($1).%1$I)::record operator(pg_catalog.*<>) row(($2).%1$I)::record', names[1])
        into changed using old, edited;
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
    execute format('select ($1).%1$I, ($2).%1$I', names[2]) into named_before, named using old, edited;
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

create function embedd.note_triggers(pipeline_id integer) returns void
language sql
set search_path = pg_catalog, pg_temp as $$
  update embedd.pipelines p
  set trigger_versions = embedd.trigger_versions(p.relation, p.id)
  where p.id = pipeline_id
$$;
comment on function embedd.note_triggers(integer) is 'Forgets how the triggers of a pipeline were altered before.';

create function embedd.create_triggers(pipeline embedd.pipelines) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  change record;
  partitioned boolean := (select relkind = 'p' from pg_class where oid = pipeline.relation);
  sources constant text[] := embedd.source_columns(pipeline.relation, pipeline.content_columns);
  source_list constant text := (select string_agg(quote_ident(c), ', ') from unnest(sources) c);
  named constant text := format('%L, %L', pipeline.embedding_column, pipeline.model_column);
  to_read constant text := (select string_agg(quote_literal(c), ', ') from unnest(sources) c);
  taken name;
  new_trigger record;
begin
  select * into change from embedd.content_change(pipeline.relation, pipeline.content_columns);
  perform embedd.drop_strays(pipeline.relation);
  select t.tgname into taken
  from pg_trigger t
  where t.tgrelid = pipeline.relation
    and t.tgname in (select format('zzz_embedd_%s__%s', pipeline.id, e) from unnest(embedd.trigger_events()) e)
    and t.tgfoid not in (select embedd.trigger_functions());
  if taken is not null then
    perform embedd.refuse('name_taken',
      format('a trigger of %s that is not embedd''s has a name that embedd needs: %I', embedd.name_of(pipeline.relation), taken),
      format('ALTER TRIGGER %I ON %s RENAME TO %I;', taken, embedd.name_of(pipeline.relation), 'a_' || taken));
  end if;
  -- Rows inserted directly into a partition do not fire the parent's statement triggers.
  execute format('create trigger %I after insert on %s for each %s execute function embedd.tg_wake__after_write(%s)',
    format('zzz_embedd_%s__after_insert', pipeline.id),
    pipeline.relation,
    case when partitioned then format('row when (new.%I is null)', pipeline.embedding_column) else 'statement' end,
    pipeline.id);
  -- before_save: two applications save the same new text, and the second brings the old text's vector back. Unlike a
  -- worker, it names a column of the text. A replicated vector names all columns, so this trigger ignores replicated
  -- changes. Those that follow an edit do not, and they need not wake a worker: its poll finds the row.
  -- By its name before_edit fires first. A vector that it drops spares the others their calls.
  for new_trigger in
    select *
    from (values
      ('before_edit', '', change.certain, named, true),
      ('before_unread', '', change.unread, format('%s, %L, %s', named, 'others', to_read), true),
      ('before_save', 'of ' || source_list, null, format('%s, %L', named, 'save'), false),
      ('before_save_unread', 'of ' || source_list, change.unread, format('%s, %L, %s', named, 'save', to_read), false)
    ) as t (event, columns, condition, arguments, replicated)
  loop
    execute format('create trigger %I before update %s on %s for each row when (new.%I is not null%s) '
      'execute function embedd.tg_forget_vector__before_update(%s)',
      format('zzz_embedd_%s__%s', pipeline.id, new_trigger.event), new_trigger.columns, pipeline.relation,
      pipeline.embedding_column, ' and (' || new_trigger.condition || ')', new_trigger.arguments);
    if new_trigger.replicated then
      execute format('alter table %s enable always trigger %I',
        pipeline.relation, format('zzz_embedd_%s__%s', pipeline.id, new_trigger.event));
    end if;
  end loop;
  execute format('create trigger %I after update on %s for each row when (%s) execute function embedd.tg_wake__after_write(%s)',
    format('zzz_embedd_%s__after_update', pipeline.id),
    pipeline.relation,
    format('new.%1$I is null and (old.%1$I is not null or %2$s)', pipeline.embedding_column, change.stored),
    pipeline.id);
  perform embedd.note_triggers(pipeline.id);
end $$;
comment on function embedd.create_triggers(embedd.pipelines) is
  'Creates the triggers that wake workers and drop outdated vectors.';

create function embedd.stray_triggers() returns table (relation regclass, trigger_name name)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select t.tgrelid::regclass, t.tgname
  from pg_trigger t
  where t.tgfoid in (select embedd.trigger_functions())
    and t.tgparentid = 0
    and not exists (
      select from embedd.pipelines p
      where p.relation = t.tgrelid
        and t.tgname like format('zzz\_embedd\_%s\_\_%%', p.id))
$$;
comment on function embedd.stray_triggers() is
  'Triggers of embedd that belong to no pipeline, such as those of a table restored from another database.';

create function embedd.drop_strays(relation regclass) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp as $$
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
    where i.indrelid = relation
      and x.relname ~ '^embedd_[0-9]+_pending(_next)?(_[0-9]+)*$'
      and not exists (
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
  'Drops embedd''s triggers and indexes of pending rows on a table that belong to none of its pipelines, such as those from '
  'a dump. Returns their number.';

create function embedd.drop_ghosts(relation regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
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
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  trigger_name name;
begin
  for trigger_name in
    select tgname
    from pg_trigger
    where tgrelid = pipeline.relation
      and tgparentid = 0
      and tgname like format('zzz\_embedd\_%s\_\_%%', pipeline.id)
      and tgfoid in (select embedd.trigger_functions())
  loop
    execute format('drop trigger %I on %s', trigger_name, pipeline.relation);
  end loop;
end $$;
comment on function embedd.drop_triggers(embedd.pipelines) is 'Drops the triggers of a pipeline.';

-- Builds that were cut off leave indexes of the next definition, and of partitions that are not attached yet.
create function embedd.drop_indexes(pipeline embedd.pipelines) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
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
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select format('(%s) where %s',
    (select string_agg(quote_ident(k), ', ' order by ordinality)
      from unnest(pipeline.key_columns) with ordinality u (k, ordinality)),
    embedd.pending_predicate(pipeline.relation, pipeline.content_columns, pipeline.embedding_column))
$$;
comment on function embedd.pending_index_definition(embedd.pipelines) is
  'The part after ON table in CREATE INDEX, for the index of pending rows.';

create function embedd.vector_index_name(pipeline_id integer) returns text
language sql immutable
set search_path = pg_catalog, pg_temp as $$
  select format('embedd_%s_vector', pipeline_id)
$$;
comment on function embedd.vector_index_name(integer) is 'The name of the vector index that a worker builds.';

create function embedd.vector_index_definition(pipeline embedd.pipelines) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select format('using %I (%I %I.%I)',
    pipeline.index_method, pipeline.embedding_column, n.nspname, t.typname || '_cosine_ops')
  from pg_attribute a
  join pg_type t on t.oid = a.atttypid
  join pg_namespace n on n.oid = t.typnamespace
  where a.attrelid = pipeline.relation and a.attname = pipeline.embedding_column and not a.attisdropped
$$;
comment on function embedd.vector_index_definition(embedd.pipelines) is
  'The part after ON table in CREATE INDEX, for cosine search.';

create function embedd.add_columns(
  relation text,
  embedding_column text,
  model_column text,
  dimensions integer,
  path text default embedd.caller_path()
) returns void
language plpgsql
set lock_timeout = '10s'
set search_path = pg_catalog, pg_temp as $$
declare
  target regclass := embedd.resolve(relation, path => path);
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
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if existing is null or existing not in ('keep', 'refresh') then
    perform embedd.refuse('existing_vectors',
      format('there is no choice %L for existing vectors', existing),
      'keep trusts them, refresh re-embeds their rows');
  end if;
  perform embedd.note_triggers(pipeline_id);
  if existing = 'keep' then
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
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  found boolean;
  unread text;
begin
  if existing is not null or not exists (select from embedd.table_tree(relation) r where pg_relation_size(r) > 0) then
    return;
  end if;
  select 'embedd does not look, because ' || r.what into unread from embedd.code_risk(relation) r;
  if unread is null then
    execute format('select exists (select from %s where %I is not null)', relation, embedding_column) into found;
  end if;
  if found is not false then
    perform embedd.refuse('existing_vectors',
      format('column %I of %s ', embedding_column, embedd.name_of(relation))
        || coalesce('may have vectors; ' || unread,
          'has vectors, and embedd cannot know whether they belong to the texts as they are now'),
      E'existing => ''refresh''  -- re-embeds their rows in the background\nexisting => ''keep''  -- trusts them',
      E'--existing refresh  # re-embeds their rows in the background\n--existing keep  # trusts them');
  end if;
end $$;
comment on function embedd.check_existing(regclass, text, text) is
  'Refuses to guess what becomes of vectors that are there already.';

create function embedd.check_name_free(relation regclass, index_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  holder regclass;
begin
  select c.oid into holder
  from pg_class t
  join pg_class c on c.relnamespace = t.relnamespace and c.relname = index_name
  where t.oid = relation;
  if holder is not null then
    perform embedd.refuse('name_taken',
      format('an index of %s needs the name %I, which something else has', embedd.name_of(relation), index_name),
      format('ALTER TABLE %s RENAME TO %I;  -- as its owner', embedd.name_of(holder), index_name || '_other'));
  end if;
end $$;
comment on function embedd.check_name_free(regclass, text) is
  'Refuses a name for a new index that a table or an index of the schema has.';

create function embedd.next_pipeline_id(relation regclass) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  id integer;
begin
  loop
    id := nextval(pg_get_serial_sequence('embedd.pipelines', 'id'));
    exit when not exists (
        select from pg_class t
        join pg_class c on c.relnamespace = t.relnamespace
        where t.oid = next_pipeline_id.relation
          and c.relname in (
            embedd.pending_index_name(id), embedd.pending_index_name(id) || '_next', embedd.vector_index_name(id)))
      and not exists (
        select from pg_trigger t
        where t.tgrelid = next_pipeline_id.relation and t.tgname like format('zzz\_embedd\_%s\_\_%%', id));
  end loop;
  return id;
end $$;
comment on function embedd.next_pipeline_id(regclass) is
  'A new id: nothing has the names yet that it gives to indexes and triggers, such as a restored table''s or a stranger''s.';

create function embedd.replace_pending_index(pipeline embedd.pipelines, create_index boolean) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  own_name constant text := embedd.pending_index_name(pipeline.id);
  tablespace_before constant text := current_setting('default_tablespace');
  own_index regclass;
  own_tablespace name;
  own_comment text;
  successor regclass;
begin
  select x.oid, s.spcname, obj_description(x.oid, 'pg_class')
  into own_index, own_tablespace, own_comment
  from pg_index i
  join pg_class x on x.oid = i.indexrelid
  left join pg_tablespace s on s.oid = x.reltablespace
  where i.indrelid = pipeline.relation and x.relname = own_name;
  if own_index is not null then
    execute format('drop index %s', own_index);
  end if;
  perform embedd.check_name_free(pipeline.relation, own_name);
  if create_index then
    if own_tablespace is not null then
      perform set_config('default_tablespace', own_tablespace, true);
    end if;
    execute format('create index %I on %s %s', own_name, pipeline.relation, embedd.pending_index_definition(pipeline));
    perform set_config('default_tablespace', tablespace_before, true);
  end if;
  select x.oid into successor
  from pg_index i
  join pg_class x on x.oid = i.indexrelid
  where i.indrelid = pipeline.relation and x.relname = own_name || case when create_index then '' else '_next' end;
  if successor is not null and own_comment is not null then
    execute format('comment on index %s is %L', successor, own_comment);
  end if;
end $$;
comment on function embedd.replace_pending_index(embedd.pipelines, boolean) is
  'Drops the index of pending rows. Its successor gets its tablespace and comment; without create_index, the caller has built '
  'it under the name that ends with _next, in its tablespace.';

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
set client_min_messages = warning
set search_path = pg_catalog, pg_temp as $$
declare
  columns_change constant boolean := content_columns <> pipeline.content_columns;
begin
  if pipeline.shadow_of is not null or exists (select from embedd.pipelines p where p.shadow_of = pipeline.id) then
    perform embedd.refuse('switching',
      format('%s is being switched to another model', embedd.name_of(pipeline.relation)),
      'select * from embedd.status;',
      format('embedd switch-model %s --status', embedd.shell_word(embedd.name_of(pipeline.relation))));
  end if;
  perform embedd.check_existing(pipeline.relation, pipeline.embedding_column, existing);
  execute format('lock table %s in %s mode', pipeline.relation,
    case when columns_change then 'access exclusive' else 'share row exclusive' end);
  if columns_change then
    perform embedd.drop_triggers(pipeline);
    perform embedd.revoke_pipeline(pipeline);
  end if;
  update embedd.pipelines p
  set content_columns = redefine.content_columns, template = redefine.template, error = null
  where p.id = pipeline.id
  returning * into pipeline;
  if columns_change then
    perform embedd.create_triggers(pipeline);
    perform embedd.grant_pipeline(pipeline, role) from embedd.worker_roles_for(pipeline.relation) as role;
    perform embedd.take_back_unneeded();
    perform embedd.replace_pending_index(pipeline, create_index);
  end if;
  -- They are about texts that are made otherwise now.
  delete from embedd.failures f where f.pipeline_id = pipeline.id;
  if existing is not null then
    perform embedd.resolve_gap(pipeline.id, existing);
  end if;
end $$;
comment on function embedd.redefine is
  'Changes what the text of a pipeline is made of. Without create_index, the caller supplies the index of pending rows.';

create function embedd.watch(
  relation text,
  content_columns text[],
  embedding_column text default 'embedding',
  model_column text default null,
  template text default null,
  model text default null,
  index_method text default null,
  create_index boolean default true,
  existing text default null,
  path text default embedd.caller_path()
) returns integer
language plpgsql
set lock_timeout = '10s'
set client_min_messages = warning
set search_path = pg_catalog, pg_temp as $$
declare
  target regclass := embedd.resolve(relation, path => path);
  -- named after the embedding column by default
  model_name_column text := coalesce(model_column, embedding_column || '_model');
  watched embedd.pipelines;
  pipeline embedd.pipelines;
begin
  if not has_table_privilege('embedd.pipelines', 'INSERT') then
    perform embedd.check_may_manage();
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
        embedd.name_of(target), embedd.later_triggers(target)),
      (
        select string_agg(
          format('ALTER TRIGGER %I ON %s RENAME TO %I;', t.tgname, embedd.name_of(target), left('a_' || t.tgname, 63)),
          ' ' order by t.tgname)
        from pg_trigger t
        where t.tgrelid = target
          and quote_ident(t.tgname) = any (string_to_array(embedd.later_triggers(target), ', '))));
  end if;
  perform embedd.drop_ghosts(target);
  select * into watched
  from embedd.pipelines p
  where p.relation = target and p.embedding_column = watch.embedding_column;
  -- Its columns were renamed or dropped, and this call gives the new ones. The vector index need not go where the texts are
  -- made of other columns.
  if found and not embedd.pipeline_is_whole(watched) and not (
    embedd.pipeline_is_whole(jsonb_populate_record(watched, '{"content_columns": []}'))
    and model_name_column = watched.model_column
    and coalesce(model, watched.model) is not distinct from watched.model
    and coalesce(index_method, watched.index_method) is not distinct from watched.index_method) then
    perform embedd.unwatch(target::text, embedding_column);
  elsif found then
    if (content_columns, template) is not distinct from (watched.content_columns, watched.template)
       or model_name_column <> watched.model_column
       or coalesce(model, watched.model) is distinct from watched.model
       or coalesce(index_method, watched.index_method) is distinct from watched.index_method then
      perform embedd.refuse('already_watched',
        format('column %I of %s is already watched, by pipeline %s', embedding_column, embedd.name_of(target), watched.id),
        format('select embedd.unwatch(%L);  -- or name another embedding_column', embedd.name_of(target)),
        format('embedd unwatch %s  # or name another column with --embedding', embedd.shell_word(embedd.name_of(target))));
    end if;
    perform embedd.redefine(watched, content_columns, template, create_index, existing);
    return watched.id;
  end if;
  perform embedd.check_existing(target, embedding_column, existing);
  insert into embedd.pipelines (
    id, relation, key_columns, content_columns, template, embedding_column, model_column, model, index_method)
  overriding system value
  values (
    embedd.next_pipeline_id(target), target, embedd.primary_key(target), content_columns, template, embedding_column,
    model_name_column, model, index_method)
  returning * into pipeline;
  perform embedd.create_triggers(pipeline);
  perform embedd.grant_pipeline(pipeline, role) from embedd.worker_roles_for(pipeline.relation) as role;
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

create function embedd.unwatch(
  relation text,
  embedding_column text default null,
  drop_columns boolean default false,
  path text default embedd.caller_path()
) returns integer
language plpgsql
set lock_timeout = '10s'
set client_min_messages = warning
set search_path = pg_catalog, pg_temp as $$
declare
  target regclass := embedd.resolve_watched(relation, path);
  schema_name name := (
    select n.nspname
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.oid = target);
  pipeline embedd.pipelines;
  shadow record;
  column_name name;
  dropped integer := 0;
begin
  if not has_table_privilege('embedd.pipelines', 'DELETE') then
    perform embedd.check_may_manage();
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
      for column_name in
        select a.attname
        from pg_attribute a
        where a.attrelid = target
          and not a.attisdropped
          and case when pipeline.relation_identity = embedd.table_identity(target)
            then a.attnum in (pipeline.embedding_attnum, pipeline.model_attnum)
            else a.attname in (pipeline.embedding_column, pipeline.model_column) end
      loop
        execute format('alter table %s drop column %I', target, column_name);
      end loop;
    end if;
  end loop;
  perform embedd.take_back_unneeded();
  if embedd.drop_strays(target) + dropped = 0 then
    perform embedd.refuse_unwatched(target, embedding_column);
  end if;
  return dropped;
end $$;
comment on function embedd.unwatch is
  'Unwatches a table: drops embedd''s triggers and indexes and revokes its grants. The vectors stay, unless drop_columns. '
  'Returns the number of pipelines removed.';

create function embedd.repair_pipeline(pipeline embedd.pipelines, target regclass, existing text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if pipeline.relation <> target then
    perform embedd.revoke_pipeline(pipeline);
    perform embedd.drop_triggers(pipeline);
    perform embedd.drop_indexes(pipeline);
    -- A refresh that runs starts again, because its ranges are of another table's keys.
    delete from embedd.refresh_windows w where w.pipeline_id = pipeline.id;
    update embedd.pipelines p set refresh_cursor = null, refreshed = 0 where p.id = pipeline.id;
  end if;
  update embedd.pipelines p
  set relation = target, relation_schema = null, relation_name = null, replaced_by = null,
    key_columns = embedd.primary_key(target), error = null
  where p.id = pipeline.id
  returning * into pipeline;
  perform embedd.drop_triggers(pipeline);
  perform embedd.create_triggers(pipeline);
  -- The table may have another owner now.
  perform embedd.undo_grant(g)
  from embedd.grants g
  where g.pipeline_id = pipeline.id and g.grantee not in (select embedd.worker_roles_for(pipeline.relation));
  delete from embedd.grants g
  where g.pipeline_id = pipeline.id and g.grantee not in (select embedd.worker_roles_for(pipeline.relation));
  perform embedd.grant_pipeline(pipeline, role) from embedd.worker_roles_for(pipeline.relation) as role;
  perform embedd.resolve_gap(pipeline.id, existing);
  -- Rows that became pending without triggers need not wait for the poll.
  perform embedd.notify(pipeline.id::text);
end $$;
comment on function embedd.repair_pipeline(embedd.pipelines, regclass, text) is
  'Restores the triggers and privileges of one pipeline, and makes it the target''s. Reads no row.';

-- The pipelines that a name means: those of the table that has it, otherwise those of the table that had it.
create function embedd.repair(
  relation text,
  embedding_column text default null,
  existing text default null,
  path text default embedd.caller_path()
) returns setof integer
language plpgsql
set lock_timeout = '10s'
set client_min_messages = warning
set search_path = pg_catalog, pg_temp as $$
declare
  for_owner constant boolean := not has_table_privilege('embedd.pipelines', 'DELETE');
  target regclass;
  pipeline embedd.pipelines;
  problem text;
  filled boolean;
  choice text;
begin
  if for_owner then
    perform embedd.check_may_manage();
  end if;
  perform embedd.follow_names();
  target := embedd.resolve(relation, true, path);
  for pipeline in
    select *
    from embedd.pipelines p
    where p.relation = embedd.resolve_watched(repair.relation, path)
      and p.embedding_column = coalesce(repair.embedding_column, p.embedding_column)
    order by p.id
  loop
    problem := coalesce(pipeline.gap, embedd.table_problem(pipeline), embedd.find_gap(pipeline));
    perform embedd.check_relation(target);
    if for_owner then
      perform embedd.check_owner(target);
    end if;
    perform embedd.check_content_columns(target, pipeline.content_columns,
      array[pipeline.embedding_column, pipeline.model_column]);
    perform embedd.check_embedding_column(target, pipeline.embedding_column);
    perform embedd.check_model_column(target, pipeline.model_column);
    -- With the caller's own rights, because reading a table may run its owner's code.
    filled := (select r.what from embedd.code_risk(target) r) is not null;
    if not filled then
      execute format('select exists (select from %s where %I is not null)', target, pipeline.embedding_column) into filled;
    end if;
    if problem is not null and filled and existing is null then
      perform embedd.refuse('existing_vectors',
        format('vectors of %s may belong to earlier texts: %s', embedd.name_of(target), problem),
        format(
          E'select embedd.repair(%1$L, existing => ''refresh'');  -- re-embeds their rows\n'
          'select embedd.repair(%1$L, existing => ''keep'');  -- trusts them',
          embedd.name_of(target)),
        format(
          E'embedd repair %1$s --existing refresh  # re-embeds their rows\n'
          'embedd repair %1$s --existing keep  # trusts them',
          embedd.shell_word(embedd.name_of(target))));
    end if;
    choice := case when filled and existing is not null then existing else 'keep' end;
    if for_owner then
      perform embedd.repair_for_owner(pipeline.id, target, choice);
    else
      perform embedd.repair_pipeline(pipeline, target, choice);
    end if;
    return next pipeline.id;
  end loop;
  if not found then
    perform embedd.refuse_unwatched(target, embedding_column);
  end if;
end $$;
comment on function embedd.repair is
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
      format('embedd.watch_for_owner does not look whether column %I of %s has vectors',
        embedding_column, embedd.name_of(relation)),
      'call embedd.watch, which does; or existing => ''refresh''; or existing => ''keep''');
  end if;
  -- The caller's path could give a temporary table's name to another table.
  perform embedd.check_relation(relation);
  return embedd.watch(relation::text, content_columns, embedding_column, model_column, template, model, index_method,
    create_index, existing, path => 'pg_catalog');
end $$;
comment on function embedd.watch_for_owner is
  'embedd.watch for a role that embedd.grant_owner was called with. existing is required.';

create function embedd.unwatch_for_owner(relation regclass, embedding_column text, drop_columns boolean) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform embedd.check_owner(relation);
  return embedd.unwatch(relation::text, embedding_column, drop_columns, path => 'pg_catalog');
end $$;
comment on function embedd.unwatch_for_owner is 'embedd.unwatch for a role that embedd.grant_owner was called with.';

create function embedd.repair_for_owner(pipeline_id integer, target regclass, existing text) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp as $$
declare
  pipeline embedd.pipelines;
begin
  perform embedd.check_owner(target);
  select * into strict pipeline from embedd.pipelines p where p.id = pipeline_id;
  -- Whoever may create tables takes over the pipeline of a table that is gone, under its name, and of no other.
  if exists (select from pg_class c where c.oid = pipeline.relation) then
    perform embedd.check_owner(pipeline.relation);
  elsif pipeline.relation is distinct from embedd.find_ghost(target::text) then
    perform embedd.refuse('not_owner',
      format('pipeline %s was not of a table called %s', pipeline_id, embedd.name_of(target)),
      'select * from embedd.status;', 'embedd status');
  end if;
  perform embedd.check_relation(target);
  perform embedd.check_content_columns(target, pipeline.content_columns,
    array[pipeline.embedding_column, pipeline.model_column]);
  perform embedd.check_embedding_column(target, pipeline.embedding_column);
  perform embedd.check_model_column(target, pipeline.model_column);
  perform embedd.repair_pipeline(pipeline, target, existing);
end $$;
comment on function embedd.repair_for_owner is 'embedd.repair for a role that embedd.grant_owner was called with.';

create function embedd.set_paused(
  relation text,
  embedding_column text,
  paused boolean,
  path text default embedd.caller_path()
) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  target constant regclass := embedd.resolve_watched(relation, path);
  changed integer;
begin
  if not has_column_privilege('embedd.pipelines', 'paused', 'UPDATE') then
    perform embedd.check_may_manage();
    return embedd.set_paused_for_owner(target, embedding_column, paused);
  end if;
  update embedd.pipelines p
  set paused = set_paused.paused
  where p.relation = target
    and p.embedding_column = coalesce(set_paused.embedding_column, p.embedding_column);
  get diagnostics changed = row_count;
  if changed = 0 then
    perform embedd.refuse_unwatched(target, embedding_column);
  end if;
  return changed;
end $$;
comment on function embedd.set_paused is
  'Pauses or resumes the pipelines of a table, or of one embedding column. Returns their number.';

create function embedd.set_paused_for_owner(relation regclass, embedding_column text, paused boolean) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform embedd.check_owner(relation);
  return embedd.set_paused(relation::text, embedding_column, paused, path => 'pg_catalog');
end $$;
comment on function embedd.set_paused_for_owner is 'embedd.set_paused for a role that embedd.grant_owner was called with.';

create function embedd.may_serve() returns boolean
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select has_column_privilege('embedd.pipelines', 'reembed', 'UPDATE')
$$;
comment on function embedd.may_serve() is 'Whether the current role has the rights of a worker.';

create function embedd.managed_pipelines(relation text default null, path text default embedd.caller_path())
returns setof integer
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if not embedd.may_serve() then
    perform embedd.check_may_manage();
  end if;
  if relation is not null then
    return query select embedd.pipelines_of(relation, path => path);
  else
    return query
      select p.id
      from embedd.pipelines p
      where embedd.may_serve() or embedd.is_own(p.relation)
      order by p.id;
  end if;
end $$;
comment on function embedd.managed_pipelines is
  'The pipelines of a table, which is refused if it has none; without a table, all that the current role may manage.';

create function embedd.visible_failures() returns setof embedd.failures
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if has_table_privilege('embedd.failures', 'SELECT') then
    return query select * from embedd.failures;
  else
    perform embedd.check_may_manage();
    return query select * from embedd.failures_for_owner();
  end if;
end $$;
comment on function embedd.visible_failures() is 'The failures of all tables, or of those that the current role owns.';

create function embedd.failures_for_owner() returns setof embedd.failures
language sql stable
security definer
set search_path = pg_catalog, pg_temp as $$
  select f.*
  from embedd.failures f
  join embedd.pipelines p on p.id = f.pipeline_id
  where embedd.is_own(p.relation)
$$;
comment on function embedd.failures_for_owner() is
  'embedd.failures for a role that embedd.grant_owner was called with.';

-- Rows without a vector are found by that, so their failures are forgotten. Rows with an old vector are found by their
-- failures; where no refresh runs, one begins that deals with those alone.
create function embedd.retry(pipeline_ids integer[], key text default null) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  retried integer;
  notified integer;
begin
  if not embedd.may_serve() then
    perform embedd.check_may_manage();
    return embedd.retry_for_owner(pipeline_ids, key);
  end if;
  with chosen as materialized (
    select f.pipeline_id, f.key, f.stale
    from embedd.failures f
    where f.pipeline_id = any (pipeline_ids)
      and (retry.key is null or f.key = retry.key)
      and f.code <> 'white_space'
  ), forgotten as (
    delete from embedd.failures f
    using chosen c
    where f.pipeline_id = c.pipeline_id and f.key = c.key and not c.stale
    returning f.pipeline_id
  ), due as (
    update embedd.failures f
    set attempts = 0, dead = false, next_attempt_at = now()
    from chosen c
    where f.pipeline_id = c.pipeline_id and f.key = c.key and c.stale
    returning f.pipeline_id
  ), refreshing as (
    update embedd.pipelines p
    set refresh_started_at = now(), refresh_cursor = '{}'
    where p.id in (select pipeline_id from due) and p.refresh_started_at is null
  ), freed as (
    select pipeline_id from forgotten
    union all
    select pipeline_id from due
  ), woken as (
    select embedd.notify(pipeline_id::text)
    from freed
    group by pipeline_id
  )
  select (select count(*) from freed), (select count(*) from woken) into retried, notified;
  return retried;
end $$;
comment on function embedd.retry(integer[], text) is
  'Retries the failed rows of these pipelines at once, dead ones too, or one by its key. Returns their number.';

create function embedd.retry_for_owner(pipeline_ids integer[], key text) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform embedd.check_owner(p.relation) from embedd.pipelines p where p.id = any (pipeline_ids);
  return embedd.retry(pipeline_ids, key);
end $$;
comment on function embedd.retry_for_owner is 'embedd.retry for a role that embedd.grant_owner was called with.';

create function embedd.request_reembed(pipeline_ids integer[], request text)
returns table (stopped text, was_refreshing boolean)
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if not embedd.may_serve() then
    perform embedd.check_may_manage();
    return query select * from embedd.request_reembed_for_owner(pipeline_ids, request);
  elsif request = 'stale' then
    update embedd.pipelines p set reembed = true where p.id = any (pipeline_ids) and not p.reembed;
  elsif request = 'all' then
    perform embedd.resolve_gap(id, 'refresh') from unnest(pipeline_ids) as id;
  elsif request = 'none' then
    return query
      with running as materialized (
        select p.id, embedd.name_of(p.relation) as relation, p.refresh_started_at is not null as refreshing
        from embedd.pipelines p
        where p.id = any (pipeline_ids)
          and (p.reembed or p.refresh_started_at is not null)
        for update
      ),
      windows as (
        delete from embedd.refresh_windows w
        where w.pipeline_id in (select r.id from running r)
      ),
      ended as (
        update embedd.pipelines p
        set reembed = false,
          gap = case when r.refreshing then coalesce(p.gap, 'a refresh was stopped before it had reached every row')
            else p.gap end,
          refresh_started_at = null,
          refresh_cursor = null
        from running r
        where p.id = r.id
      )
      select r.relation, r.refreshing
      from running r
      order by r.id;
  end if;
end $$;
comment on function embedd.request_reembed(integer[], text) is
  'stale: asks the workers to re-embed stale rows. all: every row that has a vector; a refresh that runs starts again. '
  'none: leaves the rows as they are, and where a refresh is cut short, the pipeline has a gap. Returns what none stopped.';

create function embedd.request_reembed_for_owner(pipeline_ids integer[], request text)
returns table (stopped text, was_refreshing boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp as $$
begin
  perform embedd.check_owner(p.relation) from embedd.pipelines p where p.id = any (pipeline_ids);
  return query select * from embedd.request_reembed(pipeline_ids, request);
end $$;
comment on function embedd.request_reembed_for_owner is
  'embedd.request_reembed for a role that embedd.grant_owner was called with.';

revoke execute on function embedd.watch_for_owner, embedd.unwatch_for_owner, embedd.repair_for_owner,
  embedd.set_paused_for_owner, embedd.failures_for_owner, embedd.retry_for_owner, embedd.request_reembed_for_owner
from public;

select embedd.watch('embedd.chunks', array['content']);
