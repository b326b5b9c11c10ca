--! Previous: sha1:84eb85b6bc39bca488e2d74861eb77f674726db5
--! Hash: sha1:de221421a42022149ba147c211af0d804a839326
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

create function embedd.resolve_gap(pipeline_id integer, existing text) returns void
language plpgsql as $$
begin
  if existing is null or existing not in ('keep', 'refresh') then
    perform embedd.refuse('existing_vectors',
      format('there is no choice %L for existing vectors', existing),
      'keep trusts them, refresh embeds their rows again');
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
      'existing => ''refresh'' embeds their rows again in the background; existing => ''keep'' trusts them');
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
        format('SELECT embedd.unwatch(%L); first, or choose another embedding column', target));
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

select embedd.watch('embedd.chunks', array['content']);
