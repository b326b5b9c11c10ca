--! Previous: sha1:24584a025427c7b75fe9963d61351ee2ebfdd330
--! Hash: sha1:de23824a1d6dcd155144983299340c81a14dc5b3
--! Message: watch

-- watch and unwatch. Every check comes before the first change, and every refusal says what to type.

create function embedd.resolve(relation_name text) returns regclass
language plpgsql stable as $$
declare
  found regclass;
  candidate text;
begin
  begin
    found := to_regclass(relation_name);
  exception when invalid_name or syntax_error then
    found := null;
  end;
  if found is null then
    select format('%I.%I', n.nspname, c.relname) into candidate
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and lower(c.relname) = lower(regexp_replace(relation_name, '^.*\.', ''))
    order by (n.nspname = 'public') desc, n.nspname limit 1;
    perform embedd.refuse('no_such_table', format('there is no table %s', relation_name),
      case when candidate is null then 'write schema.table; psql''s \dt *.* lists the tables'
      else format('did you mean %s?', candidate) end);
  end if;
  return found;
end $$;

create function embedd.check_relation(relation regclass) returns void
language plpgsql stable as $$
declare
  c pg_class;
  kind text;
begin
  select * into strict c from pg_class where oid = relation;
  kind := case c.relkind when 'v' then 'a view' when 'm' then 'a materialized view' when 'f' then 'a foreign table'
    when 'S' then 'a sequence' when 'c' then 'a composite type' when 'i' then 'an index' when 'I' then 'an index' end;
  if kind is not null then
    perform embedd.refuse('not_a_table', format('%s is %s, and triggers can only wake embedd from a table', relation, kind),
      case when c.relkind in ('v', 'm') then 'watch the table that it reads from' when c.relkind = 'f' then 'watch it on the server where it lives' end);
  elsif c.relpersistence = 't' then
    perform embedd.refuse('temporary_table', format('%s is temporary, and no other connection can see it', relation), 'watch a permanent table');
  elsif c.relnamespace = 'pg_catalog'::regnamespace or (c.relnamespace = 'embedd'::regnamespace and c.relname <> 'chunks') then
    perform embedd.refuse('system_table', format('%s belongs to the system', relation), 'watch a table of yours');
  elsif c.relispartition then
    perform embedd.refuse('partition', format('%s is a partition', relation), format('watch %s', (
      select inhparent::regclass from pg_inherits where inhrelid = relation)));
  elsif exists (select from pg_inherits where inhrelid = relation)
     or (c.relkind = 'r' and exists (select from pg_inherits where inhparent = relation)) then
    perform embedd.refuse('inheritance', format('%s takes part in table inheritance, where a primary key does not tell rows apart', relation),
      'use declarative partitioning, or ALTER TABLE … NO INHERIT');
  end if;
end $$;

create function embedd.check_embedding_column(relation regclass, embedding_column text) returns void
language plpgsql stable as $$
declare
  a pg_attribute;
begin
  select * into a from pg_attribute where attrelid = relation and attname = embedding_column and attnum > 0 and not attisdropped;
  if not found then
    perform embedd.refuse('no_such_column', format('table %s has no column %I', relation, embedding_column),
      format('ALTER TABLE %s ADD COLUMN %I vector(384);', relation, embedding_column));
  elsif not exists (
    select from pg_type t
    join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
    join pg_extension e on e.oid = d.refobjid and e.extname = 'vector'
    where t.oid = a.atttypid and t.typname in ('vector', 'halfvec')) then
    perform embedd.refuse('embedding_type', format('column %I of %s is of type %s, not vector(n) or halfvec(n)',
      embedding_column, relation, format_type(a.atttypid, a.atttypmod)),
      format('ALTER TABLE %s ADD COLUMN another_name vector(384); and watch with that name', relation));
  elsif a.atttypmod < 1 then
    perform embedd.refuse('no_dimension', format('column %I of %s has no fixed dimension', embedding_column, relation),
      format('ALTER TABLE %s ALTER COLUMN %I TYPE %s(384);', relation, embedding_column, format_type(a.atttypid, null)));
  elsif a.attgenerated <> '' then
    perform embedd.refuse('generated_column', format('column %I of %s is generated and cannot be written', embedding_column, relation),
      'watch with an ordinary column');
  elsif a.attnotnull then
    perform embedd.refuse('not_null', format('column %I of %s is NOT NULL, but a row waits with NULL', embedding_column, relation),
      format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', relation, embedding_column));
  end if;
end $$;

create function embedd.check_model_column(relation regclass, model_column text) returns void
language plpgsql stable as $$
declare
  a pg_attribute;
begin
  select * into a from pg_attribute where attrelid = relation and attname = model_column and attnum > 0 and not attisdropped;
  if not found then
    perform embedd.refuse('no_such_column', format('table %s has no column %I for the name of the model', relation, model_column),
      format('ALTER TABLE %s ADD COLUMN %I text;', relation, model_column));
  elsif a.atttypid not in ('text'::regtype, 'varchar'::regtype) or a.attgenerated <> '' or a.attnotnull then
    perform embedd.refuse('model_column', format('column %I of %s must be an ordinary, nullable text column', model_column, relation),
      format('ALTER TABLE %s ADD COLUMN another_name text; and watch with that name', relation));
  end if;
end $$;

create function embedd.check_content_columns(relation regclass, content_columns text[], taken text[]) returns void
language plpgsql stable as $$
declare
  name text;
begin
  if coalesce(cardinality(content_columns), 0) = 0 then
    perform embedd.refuse('no_content', 'name at least one content column', 'embedd watch docs --content body');
  end if;
  foreach name in array content_columns loop
    if not exists (select from pg_attribute where attrelid = relation and attname = name and attnum > 0 and not attisdropped) then
      perform embedd.refuse('no_such_column', format('table %s has no column %I', relation, name), format('its columns: %s', (
        select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
        where attrelid = relation and attnum > 0 and not attisdropped)));
    elsif name = any (taken) then
      perform embedd.refuse('content_column', format('column %I of %s is written by embedd and cannot be content', name, relation), 'name the columns that hold the text');
    end if;
  end loop;
  if cardinality(content_columns) <> (select count(distinct c) from unnest(content_columns) c) then
    perform embedd.refuse('content_column', 'a content column is named twice', 'name each column once');
  end if;
end $$;

create function embedd.primary_key(relation regclass) returns text[]
language plpgsql stable as $$
declare
  keys text[];
begin
  select array_agg(a.attname::text order by k.ordinality) into keys
  from pg_index i
  cross join lateral unnest(i.indkey::smallint[]) with ordinality as k (attnum, ordinality)
  join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
  where i.indrelid = relation and i.indisprimary and k.ordinality <= i.indnkeyatts;
  if keys is null then
    perform embedd.refuse('no_primary_key', format('table %s has no primary key', relation),
      format('ALTER TABLE %s ADD PRIMARY KEY (…); or ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;', relation));
  end if;
  return keys;
end $$;

-- Triggers of one event run in the order of their names' bytes, and ours must see what others made of the row.
create function embedd.later_triggers(relation regclass) returns text
language sql stable as $$
  select string_agg(quote_ident(t.tgname), ', ' order by t.tgname)
  from pg_trigger t
  where t.tgrelid = relation and not t.tgisinternal and t.tgname not like 'zzz\_embedd\_%'
    and (t.tgtype & 19) = 19 /* row, before, update */ and t.tgname collate "C" > 'zzz_embedd_'
$$;
comment on function embedd.later_triggers(regclass) is 'BEFORE UPDATE triggers of others that run after embedd''s and could change a text unseen.';

create function embedd.create_triggers(pipeline embedd.pipelines) returns void
language plpgsql as $$
declare
  changed text := embedd.content_changed(pipeline.relation, pipeline.content_columns);
  vector_schema name := (select extnamespace::regnamespace::name from pg_extension where extname = 'vector');
  partitioned boolean := (select relkind = 'p' from pg_class where oid = pipeline.relation);
begin
  -- Rows that arrive in a partition directly pass by the parent's statement triggers.
  execute format('create trigger %I after insert on %s for each %s execute function embedd.tg_wake__after_write(%s)',
    format('zzz_embedd_%s__after_insert', pipeline.id), pipeline.relation,
    case when partitioned then format('row when (new.%I is null)', pipeline.embedding_column) else 'statement' end, pipeline.id);
  execute format($sql$
    create or replace function embedd.%I() returns trigger language plpgsql as $body$
    begin
      new.%I := null;
      new.%I := null;
      return new;
    end $body$ $sql$,
    format('tg_pipeline_%s__before_update', pipeline.id), pipeline.embedding_column, pipeline.model_column);
  execute format('create trigger %I before update on %s for each row when (%s) execute function embedd.%I()',
    format('zzz_embedd_%s__before_update', pipeline.id), pipeline.relation,
    format('old.%1$I is not null and new.%1$I is not null and (%2$s) and not (old.%1$I operator(%3$I.<>) new.%1$I)',
      pipeline.embedding_column, changed, vector_schema),
    format('tg_pipeline_%s__before_update', pipeline.id));
  -- Replicated changes make a vector stale like any other; only waking can wait for the worker's poll.
  execute format('alter table %s enable always trigger %I', pipeline.relation, format('zzz_embedd_%s__before_update', pipeline.id));
  execute format('create trigger %I after update on %s for each row when (%s) execute function embedd.tg_wake__after_write(%s)',
    format('zzz_embedd_%s__after_update', pipeline.id), pipeline.relation,
    format('new.%1$I is null and (old.%1$I is not null or %2$s)', pipeline.embedding_column, changed), pipeline.id);
end $$;

create function embedd.drop_triggers(pipeline embedd.pipelines) returns void
language plpgsql as $$
declare
  trigger_name name;
begin
  for trigger_name in
    select tgname from pg_trigger where tgrelid = pipeline.relation and tgparentid = 0
      and tgname like format('zzz\_embedd\_%s\_\_%%', pipeline.id)
  loop
    execute format('drop trigger %I on %s', trigger_name, pipeline.relation);
  end loop;
  execute format('drop function if exists embedd.%I()', format('tg_pipeline_%s__before_update', pipeline.id));
end $$;

create function embedd.pending_index_name(pipeline_id integer) returns text
language sql immutable as $$ select format('embedd_%s_pending', pipeline_id) $$;

create function embedd.pending_index_definition(pipeline embedd.pipelines) returns text
language sql stable as $$
  select format('(%s) where %s',
    (select string_agg(quote_ident(k), ', ' order by ordinality) from unnest(pipeline.key_columns) with ordinality u (k, ordinality)),
    embedd.pending_predicate(pipeline.relation, pipeline.content_columns, pipeline.embedding_column))
$$;
comment on function embedd.pending_index_definition(embedd.pipelines) is 'What stands after ON table in the CREATE INDEX of the rows that wait.';

create function embedd.vector_index_name(pipeline_id integer) returns text
language sql immutable as $$ select format('embedd_%s_vector', pipeline_id) $$;

create function embedd.vector_index_definition(pipeline embedd.pipelines) returns text
language sql stable as $$
  select format('using %I (%I %I.%I)', pipeline.index_method, pipeline.embedding_column, n.nspname, t.typname || '_cosine_ops')
  from pg_attribute a join pg_type t on t.oid = a.atttypid join pg_namespace n on n.oid = t.typnamespace
  where a.attrelid = pipeline.relation and a.attname = pipeline.embedding_column and not a.attisdropped
$$;
comment on function embedd.vector_index_definition(embedd.pipelines) is 'What stands after ON table in the CREATE INDEX for cosine search.';

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
comment on function embedd.add_columns is 'Adds the two columns of a pipeline where they are missing; no row is rewritten.';

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
  -- named after the embedding column unless said
  model_name_column text := coalesce(model_column, embedding_column || '_model');
  existing embedd.pipelines;
  pipeline embedd.pipelines;
begin
  perform embedd.check_relation(target);
  perform embedd.check_content_columns(target, content_columns, array[embedding_column, model_name_column]);
  perform embedd.check_embedding_column(target, embedding_column);
  perform embedd.check_model_column(target, model_name_column);
  if embedd.later_triggers(target) is not null then
    perform embedd.refuse('later_trigger', format('%s has a BEFORE UPDATE trigger that would run after embedd''s and could change the text unseen: %s',
      target, embedd.later_triggers(target)), format('ALTER TRIGGER … ON %s RENAME TO a_name_that_sorts_before_zzz_embedd;', target));
  end if;
  select * into existing from embedd.pipelines p
  where p.relation = target and p.embedding_column = watch.embedding_column;
  if found and not embedd.pipeline_is_whole(existing) then
    -- Its columns were renamed or dropped: this call says what they are now.
    perform embedd.unwatch(relation, embedding_column);
  elsif found then
    perform embedd.refuse('already_watched', format('column %I of %s is watched already, by pipeline %s', embedding_column, target, existing.id),
      format('SELECT embedd.unwatch(%L); first, or name another embedding column', target));
  end if;
  insert into embedd.pipelines (relation, key_columns, content_columns, template, embedding_column, model_column, model, index_method)
  values (target, embedd.primary_key(target), content_columns, template, embedding_column, model_name_column, model, index_method)
  returning * into pipeline;
  perform embedd.create_triggers(pipeline);
  perform embedd.grant_pipeline(pipeline, role) from embedd.worker_roles() as role;
  if create_index then
    execute format('create index %I on %s %s', embedd.pending_index_name(pipeline.id), target, embedd.pending_index_definition(pipeline));
  end if;
  return pipeline.id;
end $$;
comment on function embedd.watch is
  'Attaches embedd to a table: checks it, creates the triggers and the partial index, and returns the pipeline''s id. Rows that are there already are embedded too. create_index builds the index under a lock that writers wait for; the command "embedd watch" builds it CONCURRENTLY instead.';

create function embedd.unwatch(relation text, embedding_column text default null, drop_columns boolean default false) returns integer
language plpgsql
set lock_timeout = '10s'
set client_min_messages = warning as $$
declare
  target regclass := embedd.resolve(relation);
  schema_name name := (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = target);
  pipeline embedd.pipelines;
  dropped integer := 0;
begin
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
comment on function embedd.unwatch is 'Leaves a table: triggers, indexes and grants of embedd go; the vectors stay unless drop_columns. Returns how many pipelines that was.';
