--! Previous: sha1:063f6f46f08d17bec9589a051f027ea133e39c7a
--! Hash: sha1:e3cdaf394aed966dde7055b179d7f4f0617da953
--! Message: switch model

-- Switching to another model without an outage: a shadow pipeline fills columns of its own beside the old ones,
-- and one short transaction (in the next migration) gives them the names.

alter table embedd.pipelines
  add column shadow_of integer unique references embedd.pipelines,
  add column model_before text;
comment on column embedd.pipelines.shadow_of is 'While its model is switched: the pipeline whose columns this one''s are to replace.';
comment on column embedd.pipelines.model_before is 'Of a shadow: the other pipeline''s model before the switch pinned it.';

-- Names are cut at 63 bytes by PostgreSQL; a suffix must survive that.
create function embedd.with_suffix(base text, suffix text) returns text
language plpgsql immutable as $$
begin
  while octet_length(base || suffix) > 63 loop
    base := left(base, -1);
  end loop;
  return base || suffix;
end $$;

-- A table and its partitions.
create function embedd.table_tree(relation regclass) returns setof regclass
language sql stable as $$
  select relation union select t.relid from pg_partition_tree(relation) t
$$;

-- Everything but indexes that is bound to columns and not to their names would go on with the old ones.
create function embedd.column_dependents(relation regclass, column_names text[]) returns text
language sql stable as $$
  select string_agg(distinct case when w.oid is not null then 'view ' || w.ev_class::regclass else pg_describe_object(d.classid, d.objid, d.objsubid) end, ', ')
  from embedd.table_tree(relation) r
  join pg_attribute a on a.attrelid = r and a.attname = any (column_names) and not a.attisdropped
  join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = r and d.refobjsubid = a.attnum
  left join pg_rewrite w on d.classid = 'pg_rewrite'::regclass and w.oid = d.objid
  left join pg_index i on d.classid = 'pg_class'::regclass and i.indexrelid = d.objid
  left join pg_trigger t on d.classid = 'pg_trigger'::regclass and t.oid = d.objid
  left join pg_attrdef f on d.classid = 'pg_attrdef'::regclass and f.oid = d.objid
  where (i.indexrelid is null or i.indisunique)
    and (t.oid is null or not exists (select from embedd.pipelines p
      where p.relation = column_dependents.relation and t.tgname in (format('zzz_embedd_%s__after_insert', p.id),
        format('zzz_embedd_%s__before_update', p.id), format('zzz_embedd_%s__after_update', p.id))))
    and (f.oid is null or f.adnum <> a.attnum)
    and not (d.classid = 'pg_class'::regclass and d.objid = r and d.objsubid in (0, a.attnum))
$$;

create function embedd.check_switch(pipeline embedd.pipelines, to_model text, to_dimensions integer, index_method text, drop_old boolean) returns void
language plpgsql stable as $$
declare
  name constant text := format('%s.%I', pipeline.relation, pipeline.embedding_column);
  type_name text;
  dimensions integer;
  column_name text;
  most integer;
begin
  select t.typname, a.atttypmod into type_name, dimensions from pg_attribute a join pg_type t on t.oid = a.atttypid
  where a.attrelid = pipeline.relation and a.attname = pipeline.embedding_column and not a.attisdropped;
  if not embedd.pipeline_is_whole(pipeline) then
    perform embedd.refuse('not_whole', format('a column that %s needs is gone', name), 'embedd status');
  elsif coalesce(pipeline.model, pipeline.served_model) is null then
    perform embedd.refuse('no_present_model', format('no worker has served %s yet, so it is not known which model it has', name), 'embedd run');
  elsif coalesce(pipeline.model, pipeline.served_model) = to_model and dimensions = to_dimensions then
    perform embedd.refuse('same_model', format('%s has vectors of %s with %s dimensions already', name, to_model, dimensions),
      'embedd switch-model --help');
  end if;
  most := case type_name when 'halfvec' then 4000 else 2000 end;
  if to_dimensions not between 1 and 16000 then
    perform embedd.refuse('too_many_dimensions', format('a %s has 1 to 16000 dimensions', type_name), '--dimensions 1536');
  elsif to_dimensions > most and index_method is not null then
    perform embedd.refuse('too_many_dimensions', format('an %s index on a %s takes at most %s dimensions, not %s', index_method, type_name, most, to_dimensions),
      format('--dimensions %s, or --index none', most));
  elsif to_dimensions > most and exists (
    select from embedd.table_tree(pipeline.relation) r
    join pg_attribute a on a.attrelid = r and a.attname = pipeline.embedding_column and not a.attisdropped
    join pg_index i on i.indrelid = r and i.indkey[0] = a.attnum and i.indisvalid
    join pg_class x on x.oid = i.indexrelid join pg_am m on m.oid = x.relam and m.amname in ('hnsw', 'ivfflat')
    where x.relname <> embedd.vector_index_name(pipeline.id)) then
    perform embedd.refuse('too_many_dimensions', format('%s has an index of vectors, and one on a %s takes at most %s dimensions, not %s', name, type_name, most, to_dimensions),
      format('--dimensions %s, or drop the index', most));
  end if;
  foreach column_name in array
    array[embedd.with_suffix(pipeline.embedding_column, '_next'), embedd.with_suffix(pipeline.model_column, '_next')]
    || case when drop_old then '{}' else array[embedd.with_suffix(pipeline.embedding_column, '_previous'), embedd.with_suffix(pipeline.model_column, '_previous')] end
  loop
    if exists (select from pg_attribute a where a.attrelid = pipeline.relation and a.attname = column_name and not a.attisdropped) then
      perform embedd.refuse('name_taken', format('the switch needs the name %I, and %s has such a column', column_name, pipeline.relation),
        format('ALTER TABLE %s DROP COLUMN %I; or RENAME it', pipeline.relation, column_name));
    end if;
  end loop;
  if exists (select from embedd.pipelines p where p.relation = pipeline.relation and p.id <> pipeline.id and p.model_column = pipeline.model_column) then
    perform embedd.refuse('shared_model_column', format('column %I of %s belongs to two embedding columns', pipeline.model_column, pipeline.relation),
      'embedd unwatch one of them, and watch it with a --model-column of its own');
  elsif embedd.column_dependents(pipeline.relation, array[pipeline.embedding_column, pipeline.model_column]) is not null then
    perform embedd.refuse('dependents', format('these would keep to the old columns of %s: %s', pipeline.relation,
      embedd.column_dependents(pipeline.relation, array[pipeline.embedding_column, pipeline.model_column])),
      'drop them, and create them again after the switch');
  end if;
end $$;

create function embedd.begin_switch(relation text, embedding_column text, to_model text, to_dimensions integer, index_method text, drop_old boolean) returns integer
language plpgsql
set client_min_messages = warning as $$
declare
  target regclass := embedd.resolve(relation);
  pipeline embedd.pipelines;
  shadow_id integer;
  next_embedding text := embedd.with_suffix(embedding_column, '_next');
  next_model text;
  old record;
begin
  select * into pipeline from embedd.pipelines p
  where p.relation = target and p.embedding_column = begin_switch.embedding_column for no key update;
  if pipeline.id is null then
    perform embedd.refuse('not_watched', format('column %I of %s is not watched', embedding_column, target),
      'SELECT relation, embedding_column FROM embedd.pipelines;');
  elsif pipeline.shadow_of is not null or exists (select from embedd.pipelines p where p.shadow_of = pipeline.id) then
    perform embedd.refuse('switching', format('%s is being switched to another model', target), format('embedd switch-model %s --status', target));
  end if;
  perform embedd.check_switch(pipeline, to_model, to_dimensions, index_method, drop_old);
  next_model := embedd.with_suffix(pipeline.model_column, '_next');
  select t.typname, n.nspname, a.attstorage, a.attcompression, a.attstattarget into old
  from pg_attribute a join pg_type t on t.oid = a.atttypid join pg_namespace n on n.oid = t.typnamespace
  where a.attrelid = target and a.attname = pipeline.embedding_column and not a.attisdropped;
  execute format('alter table %s add column %I %I.%I(%s), add column %I text', target, next_embedding, old.nspname, old.typname, to_dimensions, next_model);
  execute format('alter table %s alter column %I set storage %s', target, next_embedding,
    case old.attstorage when 'p' then 'plain' when 'm' then 'main' when 'x' then 'extended' else 'external' end);
  if old.attcompression <> '' then
    execute format('alter table %s alter column %I set compression %s', target, next_embedding, case old.attcompression when 'l' then 'lz4' else 'pglz' end);
  end if;
  if old.attstattarget >= 0 then
    execute format('alter table %s alter column %I set statistics %s', target, next_embedding, old.attstattarget);
  end if;
  -- From now on only a worker of its model serves the old column, and none of the new model's touches it.
  update embedd.pipelines p set model = coalesce(p.model, p.served_model) where p.id = pipeline.id;
  shadow_id := embedd.watch(target::text, pipeline.content_columns, embedding_column => next_embedding, model_column => next_model,
    template => pipeline.template, model => to_model, index_method => index_method, create_index => false);
  update embedd.pipelines p set shadow_of = pipeline.id, model_before = pipeline.model where p.id = shadow_id;
  return shadow_id;
end $$;
comment on function embedd.begin_switch is 'The first step of "embedd switch-model": the columns <name>_next, and a pipeline that fills them. Returns its id.';

create function embedd.abort_switch(shadow_id integer) returns void
language plpgsql
set client_min_messages = warning as $$
declare
  shadow embedd.pipelines;
begin
  select * into strict shadow from embedd.pipelines p where p.id = shadow_id and p.shadow_of is not null;
  update embedd.pipelines p set model = shadow.model_before where p.id = shadow.shadow_of;
  update embedd.pipelines p set shadow_of = null, model_before = null where p.id = shadow_id;
  perform embedd.unwatch(shadow.relation::text, shadow.embedding_column, drop_columns => true);
end $$;
comment on function embedd.abort_switch is 'Ends a switch: the new columns go, and the old pipeline is as before.';

create or replace function embedd.unwatch(relation text, embedding_column text default null, drop_columns boolean default false) returns integer
language plpgsql
set lock_timeout = '10s'
set client_min_messages = warning as $$
declare
  target regclass := embedd.resolve(relation);
  schema_name name := (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = target);
  pipeline embedd.pipelines;
  shadow record;
  dropped integer := 0;
begin
  -- A switch that is under way ends with either of its pipelines.
  for shadow in
    select s.id, s.embedding_column from embedd.pipelines s join embedd.pipelines p on p.id = s.shadow_of
    where p.relation = target and (unwatch.embedding_column is null or unwatch.embedding_column in (p.embedding_column, s.embedding_column))
  loop
    perform embedd.abort_switch(shadow.id);
    dropped := dropped + (shadow.embedding_column is not distinct from unwatch.embedding_column)::integer;
  end loop;
  for pipeline in
    select * from embedd.pipelines p
    where p.relation = target and p.embedding_column = coalesce(unwatch.embedding_column, p.embedding_column)
  loop
    perform embedd.revoke_pipeline(pipeline);
    delete from embedd.pipelines p where p.id = pipeline.id;
    perform embedd.drop_triggers(pipeline);
    execute format('drop index if exists %1$I.%2$I, %1$I.%3$I', schema_name,
      embedd.pending_index_name(pipeline.id), embedd.vector_index_name(pipeline.id));
    if drop_columns then
      execute format('alter table %s drop column if exists %I, drop column if exists %I', target, pipeline.embedding_column, pipeline.model_column);
    end if;
    dropped := dropped + 1;
  end loop;
  if dropped = 0 then
    perform embedd.refuse('not_watched', format('%s is not watched', target), 'SELECT relation, embedding_column FROM embedd.pipelines;');
  end if;
  return dropped;
end $$;
