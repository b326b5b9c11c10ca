--! Previous: sha1:e3cdaf394aed966dde7055b179d7f4f0617da953
--! Hash: sha1:72189a91b07ade3ea0c1645a769a3a0006185157
--! Message: switch model swap

-- The last step of a switch.

-- Reads the partial index of waiting rows, never the table.
create function embedd.count_behind(shadow_id integer, at_most bigint default null, out waiting bigint, out behind bigint, out dead bigint)
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off as $$
declare
  shadow embedd.pipelines;
  pipeline embedd.pipelines;
begin
  select * into strict shadow from embedd.pipelines p where p.id = shadow_id;
  select * into strict pipeline from embedd.pipelines p where p.id = shadow.shadow_of;
  execute format($sql$
    with failed as materialized (select f.key from embedd.failures f where f.pipeline_id = $1 and f.dead)
    select count(*), count(*) filter (where old), count(*) filter (where old and key in (select failed.key from failed))
    from (select t.%1$I is not null as old, (%2$s)::text as key from %3$s t where %4$s limit $2) as waiting
    $sql$, pipeline.embedding_column,
    (select case when count(*) = 1 then min(format('t.%I', k)) else 'row(' || string_agg(format('t.%I', k), ', ' order by ordinality) || ')' end
      from unnest(shadow.key_columns) with ordinality u (k, ordinality)),
    shadow.relation, embedd.pending_predicate(shadow.relation, shadow.content_columns, shadow.embedding_column))
  using shadow_id, at_most into waiting, behind, dead;
end $$;
comment on function embedd.count_behind is 'Of a switch: rows that wait for a new vector; those of them that have an old one; those of these that are dead. No more than at_most waiting rows are looked at.';

create function embedd.most_waiting(shadow_id integer, max_behind bigint) returns bigint
language sql stable as $$
  select 20000 + max_behind + (select count(*) from embedd.failures f where f.pipeline_id = shadow_id and f.dead)
$$;
comment on function embedd.most_waiting is 'How many waiting rows the swap looks at while it holds the table''s lock; where more wait it is refused.';

create function embedd.swap_index_names(old_index regclass, new_index regclass) returns void
language plpgsql as $$
declare
  schema_name name;
  old_name name;
  child record;
begin
  select n.nspname, c.relname into schema_name, old_name from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = old_index;
  for child in
    select o.indexrelid as old_index, n.indexrelid as new_index
    from pg_inherits oh join pg_index o on o.indexrelid = oh.inhrelid
    join pg_index n on n.indrelid = o.indrelid join pg_inherits nh on nh.inhrelid = n.indexrelid and nh.inhparent = swap_index_names.new_index
    where oh.inhparent = swap_index_names.old_index
  loop
    perform embedd.swap_index_names(child.old_index, child.new_index);
  end loop;
  execute format('alter index %I.%I rename to %I', schema_name, old_name, embedd.with_suffix(old_name, '_previous'));
  execute format('alter index %s rename to %I', new_index, old_name);
end $$;

-- Under an ACCESS EXCLUSIVE lock of the table, so nothing in here may read it but through the index of
-- waiting rows.
create function embedd.finish_switch(shadow_id integer, max_behind bigint, force boolean, drop_old boolean) returns void
language plpgsql
set client_min_messages = warning as $$
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
  select * into counted from embedd.count_behind(shadow_id, at_most => embedd.most_waiting(shadow_id, max_behind) + 1);
  if counted.dead > 0 and not force then
    perform embedd.refuse('dead_rows', format('%s rows of %s could not be embedded with %s, and would be without a vector', counted.dead, shadow.relation, shadow.model),
      'embedd failures --dead; embedd retry; or --force');
  elsif counted.behind - counted.dead > max_behind or counted.waiting > embedd.most_waiting(shadow_id, max_behind) then
    perform embedd.refuse('behind', format('too many rows of %s wait for their new vector', shadow.relation), 'embedd run');
  end if;
  previous := array[embedd.with_suffix(pipeline.embedding_column, '_previous'), embedd.with_suffix(pipeline.model_column, '_previous')];

  perform embedd.copy_column_settings(pipeline, shadow);
  update embedd.pipelines p set shadow_of = null, model_before = null where p.id = shadow_id;
  perform embedd.revoke_pipeline(pipeline);
  perform embedd.drop_triggers(pipeline);
  perform embedd.drop_triggers(shadow);
  execute (select format('drop index if exists %1$s.%2$I, %1$s.%3$I', c.relnamespace::regnamespace,
    embedd.pending_index_name(pipeline.id), embedd.vector_index_name(pipeline.id)) from pg_class c where c.oid = pipeline.relation);
  delete from embedd.pipelines p where p.id = pipeline.id;

  for pair in
    select o.oid::regclass as old_index, n.oid::regclass as new_index
    from embedd.table_tree(shadow.relation) r
    join pg_index ni on ni.indrelid = r join pg_class n on n.oid = ni.indexrelid and not n.relispartition and n.relname ~ '^embedd_next_[0-9]+$'
    join pg_class o on o.oid::text = substr(n.relname::text, 13) join pg_index oi on oi.indexrelid = o.oid and oi.indrelid = r
  loop
    perform embedd.swap_index_names(pair.old_index, pair.new_index);
  end loop;
  if drop_old then
    execute format('alter table %s drop column %I, drop column %I', shadow.relation, pipeline.embedding_column, pipeline.model_column);
  else
    execute format('alter table %s rename column %I to %I', shadow.relation, pipeline.embedding_column, previous[1]);
    execute format('alter table %s rename column %I to %I', shadow.relation, pipeline.model_column, previous[2]);
  end if;
  execute format('alter table %s rename column %I to %I', shadow.relation, shadow.embedding_column, pipeline.embedding_column);
  execute format('alter table %s rename column %I to %I', shadow.relation, shadow.model_column, pipeline.model_column);

  update embedd.grants g set column_name = case g.column_name when shadow.embedding_column then pipeline.embedding_column else pipeline.model_column end
  where g.pipeline_id = shadow_id and g.column_name in (shadow.embedding_column, shadow.model_column);
  update embedd.pipelines p
  set embedding_column = pipeline.embedding_column, model_column = pipeline.model_column, paused = pipeline.paused, reembed = pipeline.reembed,
    model = case when shadow.model_before is not null then shadow.model end, served_model = shadow.model
  where p.id = shadow_id returning * into shadow;
  perform embedd.create_triggers(shadow);
end $$;
comment on function embedd.finish_switch is 'The last step of "embedd switch-model", for which it holds the table''s lock: the new columns get the old ones'' names, indexes and privileges, and their pipeline takes over. The old ones are <name>_previous, or dropped.';

create function embedd.copy_column_settings(pipeline embedd.pipelines, shadow embedd.pipelines) returns void
language plpgsql as $$
declare
  given record;
begin
  for given in
    select format('grant %s (%I) on %s to %s%s', acl.privilege_type, u.new_name, pipeline.relation,
      case acl.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end, case when acl.is_grantable then ' with grant option' else '' end) as statement
    from unnest(array[pipeline.embedding_column, pipeline.model_column], array[shadow.embedding_column, shadow.model_column]) as u (old_name, new_name)
    join pg_attribute a on a.attrelid = pipeline.relation and a.attname = u.old_name and not a.attisdropped
    cross join lateral aclexplode(a.attacl) as acl
    where not exists (select from embedd.grants g where g.pipeline_id = pipeline.id and g.grantee = acl.grantee
      and g.privilege = acl.privilege_type and g.column_name = u.old_name)
  loop
    execute given.statement;
  end loop;
  for given in
    select format('comment on column %s.%I is %L', pipeline.relation, u.new_name, col_description(pipeline.relation, a.attnum)) as statement
    from unnest(array[pipeline.embedding_column, pipeline.model_column], array[shadow.embedding_column, shadow.model_column]) as u (old_name, new_name)
    join pg_attribute a on a.attrelid = pipeline.relation and a.attname = u.old_name and not a.attisdropped
    where col_description(pipeline.relation, a.attnum) is not null
  loop
    execute given.statement;
  end loop;
end $$;
