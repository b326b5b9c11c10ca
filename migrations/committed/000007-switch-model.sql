--! Previous: sha1:9468acad40c79dc209f415b3b3c7c2cda320cb51
--! Hash: sha1:a4541f91a9941dde5196075e8d7bf24b0ced50b4
--! Message: switch model

set local search_path = pg_catalog, pg_temp;

-- Switching to another model without an outage: a shadow pipeline fills new columns next to the old ones, and one
-- short transaction swaps the names.

-- PostgreSQL truncates names at 63 bytes, which must not cut off the suffix.
create function embedd.with_suffix(base text, suffix text) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp as $$
begin
  while octet_length(base || suffix) > 63 loop
    base := left(base, -1);
  end loop;
  return base || suffix;
end $$;
comment on function embedd.with_suffix(text, text) is 'A name with a suffix, in at most 63 bytes.';

-- An object that refers to a column, not to its name, would stay with the old column. Indexes are not listed: the switch
-- builds new ones.
create function embedd.column_dependents(relation regclass, column_names text[]) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select string_agg(distinct
    case when w.oid is not null then 'view ' || embedd.name_of(w.ev_class)
    else pg_describe_object(d.classid, d.objid, d.objsubid) end, ', ')
  from embedd.table_tree(relation) r
  join pg_attribute a on a.attrelid = r and a.attname = any (column_names) and not a.attisdropped
  join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = r and d.refobjsubid = a.attnum
  left join pg_rewrite w on d.classid = 'pg_rewrite'::regclass and w.oid = d.objid
  left join pg_index i on d.classid = 'pg_class'::regclass and i.indexrelid = d.objid
  left join pg_trigger t on d.classid = 'pg_trigger'::regclass and t.oid = d.objid
  left join pg_attrdef f on d.classid = 'pg_attrdef'::regclass and f.oid = d.objid
  where (i.indexrelid is null or i.indisunique)
    and (t.oid is null or not exists (
      select from embedd.pipelines p
      where p.relation = column_dependents.relation
        and t.tgfoid in (select embedd.trigger_functions())
        and t.tgname in (select format('zzz_embedd_%s__%s', p.id, e) from unnest(embedd.trigger_events()) e)))
    and (f.oid is null or f.adnum <> a.attnum)
    and not (d.classid = 'pg_class'::regclass and d.objid = r and d.objsubid in (0, a.attnum))
$$;
comment on function embedd.column_dependents(regclass, text[]) is
  'What depends on the columns, other than embedd''s triggers and plain indexes.';

create function embedd.check_switch(
  pipeline embedd.pipelines,
  to_model text,
  to_dimensions integer,
  index_method text,
  drop_old boolean
) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  name constant text := format('%s.%I', embedd.name_of(pipeline.relation), pipeline.embedding_column);
  type_name text;
  dimensions integer;
  column_name text;
  default_value text;
  most integer;
begin
  select t.typname, a.atttypmod into type_name, dimensions
  from pg_attribute a
  join pg_type t on t.oid = a.atttypid
  where a.attrelid = pipeline.relation and a.attname = pipeline.embedding_column and not a.attisdropped;
  if not embedd.pipeline_is_whole(pipeline) then
    perform embedd.refuse('not_whole', format('a column that %s needs is gone', name),
      'select * from embedd.status;', 'embedd status');
  elsif coalesce(pipeline.model, pipeline.served_model) is null then
    perform embedd.refuse('no_current_model',
      format('no worker has served %s yet, so its current model is unknown', name),
      'embedd run');
  elsif coalesce(pipeline.model, pipeline.served_model) = to_model and dimensions = to_dimensions then
    perform embedd.refuse('same_model',
      format('%s already has vectors from %s with %s dimensions', name, to_model, dimensions),
      'embedd switch-model --help');
  end if;
  default_value := (
    select pg_get_expr(d.adbin, d.adrelid)
    from pg_attrdef d
    join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
    where d.adrelid = pipeline.relation and a.attname = pipeline.embedding_column and not a.attisdropped);
  if default_value is not null and dimensions <> to_dimensions and default_value not like 'NULL::%' then
    perform embedd.refuse('dependents',
      format('the default of %s is a vector of %s dimensions', name, dimensions),
      format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT;', embedd.name_of(pipeline.relation), pipeline.embedding_column));
  end if;
  most := case type_name when 'halfvec' then 4000 else 2000 end;
  if to_dimensions not between 1 and 16000 then
    perform embedd.refuse('too_many_dimensions', format('a %s can have 1 to 16000 dimensions', type_name), '--dimensions 1536');
  elsif to_dimensions > most and index_method is not null then
    perform embedd.refuse('too_many_dimensions',
      format('an %s index on a %s takes at most %s dimensions, not %s', index_method, type_name, most, to_dimensions),
      format('--dimensions %s  # or: --index none', most));
  elsif to_dimensions > most and exists (
    select from embedd.table_tree(pipeline.relation) r
    join pg_attribute a on a.attrelid = r and a.attname = pipeline.embedding_column and not a.attisdropped
    join pg_index i on i.indrelid = r and i.indkey[0] = a.attnum and i.indisvalid
    join pg_class x on x.oid = i.indexrelid
    join pg_am m on m.oid = x.relam and m.amname in ('hnsw', 'ivfflat')
    where x.relname <> embedd.vector_index_name(pipeline.id)) then
    perform embedd.refuse('too_many_dimensions',
      format('%s has a vector index, which on a %s takes at most %s dimensions, not %s',
        name, type_name, most, to_dimensions),
      format('--dimensions %s  # or drop the index', most));
  end if;
  foreach column_name in array
    array[embedd.with_suffix(pipeline.embedding_column, '_next'), embedd.with_suffix(pipeline.model_column, '_next')]
    || case when drop_old then '{}' else array[
      embedd.with_suffix(pipeline.embedding_column, '_previous'), embedd.with_suffix(pipeline.model_column, '_previous')] end
  loop
    if exists (
      select from pg_attribute a
      where a.attrelid = pipeline.relation and a.attname = column_name and not a.attisdropped) then
      perform embedd.refuse('name_taken',
        format('the switch needs the name %I, but %s already has a column with this name',
          column_name, embedd.name_of(pipeline.relation)),
        format('ALTER TABLE %s DROP COLUMN %I;  -- or RENAME it', embedd.name_of(pipeline.relation), column_name));
    end if;
  end loop;
  if exists (
    select from embedd.pipelines p
    where p.relation = pipeline.relation and p.id <> pipeline.id and p.model_column = pipeline.model_column) then
    perform embedd.refuse('shared_model_column',
      format('two embedding columns share column %I of %s', pipeline.model_column, embedd.name_of(pipeline.relation)),
      'select * from embedd.status;  -- then unwatch one of them, and watch it again with its own model_column',
      'embedd status  # then unwatch one of them, and watch it again with its own --model-column');
  elsif embedd.column_dependents(pipeline.relation, array[pipeline.embedding_column, pipeline.model_column]) is not null then
    perform embedd.refuse('dependents',
      format('these would still use the old columns of %s: %s', embedd.name_of(pipeline.relation),
        embedd.column_dependents(pipeline.relation, array[pipeline.embedding_column, pipeline.model_column])),
      'drop them, then create them again after the switch');
  end if;
end $$;
comment on function embedd.check_switch(embedd.pipelines, text, integer, text, boolean) is
  'Refuses a switch that could not be finished.';

create function embedd.begin_switch(
  relation text,
  embedding_column text,
  to_model text,
  to_dimensions integer,
  index_method text,
  drop_old boolean,
  path text default embedd.caller_path()
) returns integer
language plpgsql
set client_min_messages = warning
set search_path = pg_catalog, pg_temp as $$
declare
  target regclass := embedd.resolve(relation, true, path);
  pipeline embedd.pipelines;
  shadow_id integer;
  next_embedding text := embedd.with_suffix(embedding_column, '_next');
  next_model text;
  old record;
begin
  select * into pipeline
  from embedd.pipelines p
  where p.relation = target and p.embedding_column = begin_switch.embedding_column
  for no key update;
  if pipeline.id is null then
    perform embedd.refuse_unwatched(target, embedding_column);
  elsif pipeline.shadow_of is not null or exists (select from embedd.pipelines p where p.shadow_of = pipeline.id) then
    perform embedd.refuse('switching',
      format('%s is being switched to another model', embedd.name_of(target)),
      'select * from embedd.status;',
      format('embedd switch-model %s --status', embedd.shell_word(embedd.name_of(target))));
  end if;
  perform embedd.refuse_code_risk(target);
  perform embedd.check_switch(pipeline, to_model, to_dimensions, index_method, drop_old);
  next_model := embedd.with_suffix(pipeline.model_column, '_next');
  select t.typname, n.nspname, a.attstorage, a.attcompression, a.attstattarget into old
  from pg_attribute a
  join pg_type t on t.oid = a.atttypid
  join pg_namespace n on n.oid = t.typnamespace
  where a.attrelid = target and a.attname = pipeline.embedding_column and not a.attisdropped;
  execute format('alter table %s add column %I %I.%I(%s), add column %I text',
    target, next_embedding, old.nspname, old.typname, to_dimensions, next_model);
  execute format('alter table %s alter column %I set storage %s', target, next_embedding,
    case old.attstorage when 'p' then 'plain' when 'm' then 'main' when 'x' then 'extended' else 'external' end);
  if old.attcompression <> '' then
    execute format('alter table %s alter column %I set compression %s', target, next_embedding,
      case old.attcompression when 'l' then 'lz4' else 'pglz' end);
  end if;
  if old.attstattarget >= 0 then
    execute format('alter table %s alter column %I set statistics %s', target, next_embedding, old.attstattarget);
  end if;
  -- From now on only workers with the old model serve the old column.
  update embedd.pipelines p
  set model = coalesce(p.model, p.served_model)
  where p.id = pipeline.id;
  shadow_id := embedd.watch(
    target::text,
    pipeline.content_columns,
    embedding_column => next_embedding,
    model_column => next_model,
    template => pipeline.template,
    model => to_model,
    index_method => index_method,
    create_index => false,
    existing => 'keep');
  update embedd.pipelines p
  set shadow_of = pipeline.id, model_before = pipeline.model
  where p.id = shadow_id;
  return shadow_id;
end $$;
comment on function embedd.begin_switch is
  'First step of "embedd switch-model": adds the columns <name>_next and a shadow pipeline that fills them. '
  'Returns the id of the shadow pipeline.';

create function embedd.abort_switch(shadow_id integer) returns void
language plpgsql
set client_min_messages = warning
set search_path = pg_catalog, pg_temp as $$
declare
  shadow embedd.pipelines;
begin
  select * into strict shadow
  from embedd.pipelines p
  where p.id = shadow_id and p.shadow_of is not null;
  update embedd.pipelines p set model = shadow.model_before where p.id = shadow.shadow_of;
  update embedd.pipelines p set shadow_of = null, model_before = null where p.id = shadow_id;
  perform embedd.unwatch(shadow.relation::text, shadow.embedding_column, drop_columns => true);
end $$;
comment on function embedd.abort_switch is 'Aborts a switch: drops the new columns and restores the old pipeline.';

-- Reads the index of pending rows, never the whole table.
create function embedd.count_behind(
  shadow_id integer,
  at_most bigint default null,
  out pending bigint,
  out behind bigint,
  out dead bigint)
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set search_path = pg_catalog, pg_temp as $$
declare
  shadow embedd.pipelines;
  pipeline embedd.pipelines;
begin
  select * into strict shadow from embedd.pipelines p where p.id = shadow_id;
  select * into strict pipeline from embedd.pipelines p where p.id = shadow.shadow_of;
  perform embedd.refuse_code_risk(shadow.relation);
  execute format($sql$
    with failed as materialized (
      select f.key
      from embedd.failures f
      where f.pipeline_id = $1 and f.dead and f.code <> 'white_space')
    select
      count(*),
      count(*) filter (where old),
      count(*) filter (where old and key in (select failed.key from failed))
    from (
      select t.%1$I is not null as old, (%2$s)::text as key
      from %3$s t
      where %4$s
        and (%2$s)::text not in (
          select f.key from embedd.failures f where f.pipeline_id = $1 and f.code = 'white_space')
      limit $2) as pending
    $sql$,
    pipeline.embedding_column,
    (select
        case when count(*) = 1 then min(format('t.%I', k))
        else 'row(' || string_agg(format('t.%I', k), ', ' order by ordinality) || ')' end
      from unnest(shadow.key_columns) with ordinality u (k, ordinality)),
    shadow.relation,
    embedd.pending_predicate(shadow.relation, shadow.content_columns, shadow.embedding_column))
  using shadow_id, at_most
  into pending, behind, dead;
end $$;
comment on function embedd.count_behind is
  'Progress of a switch. pending: rows without a new vector; behind: pending rows that have an old vector; '
  'dead: those of them that are no longer retried. Reads at most at_most pending rows.';

create function embedd.most_pending(shadow_id integer, max_behind bigint) returns bigint
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select 20000 + max_behind + (select count(*) from embedd.failures f where f.pipeline_id = shadow_id and f.dead)
$$;
comment on function embedd.most_pending is
  'How many pending rows the swap may count while it locks the table; with more it is refused.';

create function embedd.copy_index_comment(old_index regclass, new_index regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if obj_description(old_index, 'pg_class') is not null then
    execute format('comment on index %s is %L', new_index, obj_description(old_index, 'pg_class'));
  end if;
end $$;
comment on function embedd.copy_index_comment(regclass, regclass) is 'Copies the comment of an index to its successor.';

create function embedd.free_name(schema_name name, base text, suffix text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  candidate text := embedd.with_suffix(base, suffix);
  number integer := 1;
begin
  while exists (
    select from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = schema_name and c.relname = candidate)
  loop
    number := number + 1;
    candidate := embedd.with_suffix(base, suffix || '_' || number);
  end loop;
  return candidate;
end $$;
comment on function embedd.free_name(name, text, text) is
  'A name with a suffix that no table or index of the schema has, in at most 63 bytes.';

create function embedd.swap_index_names(old_index regclass, new_index regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  schema_name name;
  old_name name;
  child record;
begin
  select n.nspname, c.relname into schema_name, old_name
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.oid = old_index;
  for child in
    select o.indexrelid as old_index, n.indexrelid as new_index
    from pg_inherits oh
    join pg_index o on o.indexrelid = oh.inhrelid
    join pg_index n on n.indrelid = o.indrelid
    join pg_inherits nh on nh.inhrelid = n.indexrelid and nh.inhparent = swap_index_names.new_index
    where oh.inhparent = swap_index_names.old_index
  loop
    perform embedd.swap_index_names(child.old_index, child.new_index);
  end loop;
  perform embedd.copy_index_comment(old_index, new_index);
  execute format('alter index %I.%I rename to %I',
    schema_name, old_name, embedd.free_name(schema_name, old_name, '_previous'));
  execute format('alter index %s rename to %I', new_index, old_name);
end $$;
comment on function embedd.swap_index_names(regclass, regclass) is
  'Gives an index, and its partitions, the name of the index that it replaces.';

create function embedd.copy_column_settings(pipeline embedd.pipelines, shadow embedd.pipelines) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  given record;
begin
  for given in
    select format('grant %s (%I) on %s to %s%s', acl.privilege_type, u.new_name, pipeline.relation,
      case acl.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end,
      case when acl.is_grantable then ' with grant option' else '' end) as statement
    from unnest(
      array[pipeline.embedding_column, pipeline.model_column],
      array[shadow.embedding_column, shadow.model_column]) as u (old_name, new_name)
    join pg_attribute a on a.attrelid = pipeline.relation and a.attname = u.old_name and not a.attisdropped
    cross join lateral aclexplode(a.attacl) as acl
    where not exists (
      select from embedd.grants g
      where g.pipeline_id = pipeline.id
        and g.grantee = acl.grantee
        and g.privilege = acl.privilege_type
        and g.object_name = u.old_name)
  loop
    execute given.statement;
  end loop;
  for given in
    select format('comment on column %s.%I is %L',
      pipeline.relation, u.new_name, col_description(pipeline.relation, a.attnum)) as statement
    from unnest(
      array[pipeline.embedding_column, pipeline.model_column],
      array[shadow.embedding_column, shadow.model_column]) as u (old_name, new_name)
    join pg_attribute a on a.attrelid = pipeline.relation and a.attname = u.old_name and not a.attisdropped
    where col_description(pipeline.relation, a.attnum) is not null
  loop
    execute given.statement;
  end loop;
  for given in
    select format('alter table %s alter column %I set default %s, alter column %I drop default',
      pipeline.relation, u.new_name, pg_get_expr(d.adbin, d.adrelid), u.old_name) as statement
    from unnest(
      array[pipeline.embedding_column, pipeline.model_column],
      array[shadow.embedding_column, shadow.model_column]) as u (old_name, new_name)
    join pg_attribute a on a.attrelid = pipeline.relation and a.attname = u.old_name and not a.attisdropped
    join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  loop
    execute given.statement;
  end loop;
  for given in
    select o.indexrelid as old_index, n.indexrelid as new_index
    from (values
      (embedd.pending_index_name(pipeline.id), embedd.pending_index_name(shadow.id)),
      (embedd.vector_index_name(pipeline.id), embedd.vector_index_name(shadow.id))) as names (old_name, new_name)
    join (pg_index o join pg_class oc on oc.oid = o.indexrelid)
      on o.indrelid = pipeline.relation and oc.relname = names.old_name
    join (pg_index n join pg_class nc on nc.oid = n.indexrelid)
      on n.indrelid = pipeline.relation and nc.relname = names.new_name
  loop
    perform embedd.copy_index_comment(given.old_index, given.new_index);
  end loop;
end $$;
comment on function embedd.copy_column_settings(embedd.pipelines, embedd.pipelines) is
  'Moves users'' defaults from the old columns to the new ones, and copies grants and comments.';

-- Holds an ACCESS EXCLUSIVE lock on the table, so it may read the table only through the index of pending rows.
create function embedd.finish_switch(shadow_id integer, max_behind bigint, force boolean, drop_old boolean) returns void
language plpgsql
set client_min_messages = warning
set search_path = pg_catalog, pg_temp as $$
declare
  shadow embedd.pipelines;
  pipeline embedd.pipelines;
  counted record;
  pair record;
  previous text[];
begin
  select * into strict shadow from embedd.pipelines p where p.id = shadow_id for update;
  select * into strict pipeline from embedd.pipelines p where p.id = shadow.shadow_of for update;
  execute format('lock table %s in access exclusive mode', shadow.relation);
  select * into counted
  from embedd.count_behind(shadow_id, at_most => embedd.most_pending(shadow_id, max_behind) + 1);
  if counted.dead > 0 and not force then
    perform embedd.refuse('dead_rows',
      format('%s rows of %s could not be embedded with %s and would lose their vector',
        counted.dead, embedd.name_of(shadow.relation), shadow.model),
      'select * from embedd.failures where dead;',
      'embedd failures --dead  # then embedd retry, or embedd switch-model --force');
  elsif counted.behind - counted.dead > max_behind
     or counted.pending > embedd.most_pending(shadow_id, max_behind) then
    perform embedd.refuse('behind',
      format('too many rows of %s have no new vector yet', embedd.name_of(shadow.relation)),
      'embedd run');
  end if;
  previous := array[
    embedd.with_suffix(pipeline.embedding_column, '_previous'),
    embedd.with_suffix(pipeline.model_column, '_previous')];

  perform embedd.copy_column_settings(pipeline, shadow);
  update embedd.pipelines p set shadow_of = null, model_before = null where p.id = shadow_id;
  perform embedd.revoke_pipeline(pipeline);
  perform embedd.drop_triggers(pipeline);
  perform embedd.drop_triggers(shadow);
  perform embedd.drop_indexes(pipeline);
  delete from embedd.pipelines p where p.id = pipeline.id;

  for pair in
    select o.oid::regclass as old_index, n.oid::regclass as new_index
    from embedd.table_tree(shadow.relation) r
    join pg_index ni on ni.indrelid = r
    join pg_class n on n.oid = ni.indexrelid and not n.relispartition and n.relname ~ '^embedd_next_[0-9]+$'
    join pg_class o on o.oid::text = substr(n.relname::text, 13)
    join pg_index oi on oi.indexrelid = o.oid and oi.indrelid = r
  loop
    perform embedd.swap_index_names(pair.old_index, pair.new_index);
  end loop;
  if drop_old then
    execute format('alter table %s drop column %I, drop column %I',
      shadow.relation, pipeline.embedding_column, pipeline.model_column);
  else
    execute format('alter table %s rename column %I to %I', shadow.relation, pipeline.embedding_column, previous[1]);
    execute format('alter table %s rename column %I to %I', shadow.relation, pipeline.model_column, previous[2]);
  end if;
  execute format('alter table %s rename column %I to %I',
    shadow.relation, shadow.embedding_column, pipeline.embedding_column);
  execute format('alter table %s rename column %I to %I',
    shadow.relation, shadow.model_column, pipeline.model_column);

  update embedd.grants g
  set object_name = case g.object_name
    when shadow.embedding_column then pipeline.embedding_column
    else pipeline.model_column end
  where g.pipeline_id = shadow_id
    and g.object_name in (shadow.embedding_column, shadow.model_column);
  update embedd.pipelines p
  set
    embedding_column = pipeline.embedding_column,
    model_column = pipeline.model_column,
    paused = pipeline.paused,
    reembed = pipeline.reembed,
    model = case when shadow.model_before is not null then shadow.model end,
    served_model = shadow.model,
    former_models = array(
      select distinct m
      from unnest(pipeline.former_models || array[pipeline.model, pipeline.served_model]) m
      where m <> shadow.model)
  where p.id = shadow_id
  returning * into shadow;
  perform embedd.create_triggers(shadow);
end $$;
comment on function embedd.finish_switch is
  'Last step of "embedd switch-model", under a lock on the table: the new columns take over the names, index names and '
  'privileges of the old ones, and their pipeline takes over. The old columns become <name>_previous or are dropped.';
