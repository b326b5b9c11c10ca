--! Previous: sha1:5ff894e17ce8ecbd37f94ac8372992abfd408ae5
--! Hash: sha1:2093048ecd604e8269cf514d16121462e55589b1
--! Message: shape

set local search_path = pg_catalog, pg_temp;

-- The shape of a watched table: checks before it is watched, and SQL conditions built from its columns. Every refusal
-- says what to type.

-- A table that was dropped is known by its last name, or by the OID that PostgreSQL prints in its place.
create function embedd.find_ghost(relation_name text) returns regclass
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  names text[];
  found regclass;
begin
  begin
    names := parse_ident(relation_name);
  exception when invalid_parameter_value then
    names := array[relation_name];
  end;
  select p.relation into found
  from embedd.pipelines p
  where p.relation::oid::text = find_ghost.relation_name
    or (not exists (select from pg_class c where c.oid = p.relation and c.relname = p.relation_name)
      and p.relation_name = names[cardinality(names)]
      and (cardinality(names) = 1 or p.relation_schema = names[cardinality(names) - 1]))
  order by p.id
  limit 1;
  return found;
end $$;
comment on function embedd.find_ghost(text) is
  'The watched table that last had this name and no longer has it; NULL if there is none.';

-- Optimal string alignment: two letters that are swapped count as one edit.
create function embedd.edit_distance(a text, b text) returns integer
language plpgsql immutable
set search_path = pg_catalog, pg_temp as $$
declare
  before integer[];
  above integer[] := array(select generate_series(0, length(b)));
  line integer[];
begin
  for i in 1 .. length(a) loop
    line := array[i];
    for j in 1 .. length(b) loop
      line[j + 1] := least(above[j + 1] + 1, line[j] + 1, above[j] + (substr(a, i, 1) <> substr(b, j, 1))::integer);
      if i > 1 and j > 1 and substr(a, i, 1) = substr(b, j - 1, 1) and substr(a, i - 1, 1) = substr(b, j, 1) then
        line[j + 1] := least(line[j + 1], before[j - 1] + 1);
      end if;
    end loop;
    before := above;
    above := line;
  end loop;
  return above[length(b) + 1];
end $$;
comment on function embedd.edit_distance(text, text) is 'How many letters to add, drop, change or swap to make one word another.';

create function embedd.similar_tables(relation_name text, watched boolean) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  wanted constant text := left(lower(trim(both '"' from regexp_replace(relation_name, '^.*\.', ''))), 63);
begin
  return (
    select string_agg(embedd.name_of(similar_table.relation), ' or ' order by similar_table.distance, similar_table.relation)
    from (
      select candidate.relation, embedd.edit_distance(wanted, candidate.word) as distance
      from (
        select c.oid as relation, lower(c.relname) as word
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p')
          and n.nspname !~ '^pg_'
          and n.nspname <> 'information_schema'
          and abs(length(c.relname) - length(wanted)) <= 3
          and case when watched then exists (select from embedd.pipelines p where p.relation = c.oid)
            else n.nspname <> 'embedd' or c.relname = 'chunks' end
        order by (n.nspname = 'public') desc, n.nspname, c.relname
        -- Each comparison takes a fraction of a millisecond.
        limit 2000) as candidate
      where embedd.edit_distance(wanted, candidate.word) <= greatest(length(wanted) / 4, 1)
      order by distance, candidate.relation
      limit 3) as similar_table);
end $$;
comment on function embedd.similar_tables(text, boolean) is
  'Up to three tables, or watched tables, whose names are nearly this one, regardless of their schema; NULL if there is none.';

create function embedd.resolve(
  relation_name text,
  watched boolean default false,
  path text default embedd.caller_path()
) returns regclass
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  found regclass;
begin
  begin
    perform set_config('search_path', path, true);
    found := pg_catalog.to_regclass(relation_name);
  exception when invalid_name or syntax_error then
    found := null;
  end;
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  if found is null or not exists (select from pg_class c where c.oid = found) then
    found := embedd.find_ghost(relation_name);
  end if;
  if found is null then
    perform embedd.refuse('no_such_table',
      format('there is no table %s', relation_name)
        || coalesce('; did you mean ' || embedd.similar_tables(relation_name, watched) || '?', ''),
      case when watched then 'select * from embedd.status;'
        else 'select * from pg_tables;  -- then write schema.table' end,
      case when watched then 'embedd status  # lists the watched tables' end);
  end if;
  return found;
end $$;
comment on function embedd.resolve is
  'The table with this name, or the watched table that last had it; refuses with similar names, of watched tables alone if '
  'watched is true, if there is none.';

create function embedd.resolve_watched(relation_name text, path text default embedd.caller_path()) returns regclass
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  found regclass := embedd.resolve(relation_name, true, path);
begin
  if exists (select from embedd.pipelines p where p.relation = found) then
    return found;
  end if;
  return coalesce(embedd.find_ghost(relation_name), found);
end $$;
comment on function embedd.resolve_watched is
  'The watched table with this name. If the table was replaced, the one that had the name before.';

create function embedd.refuse_unwatched(relation regclass, embedding_column text default null) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  own_name constant text := embedd.name_of(relation);
  others constant text := (
    select string_agg(quote_ident(p.embedding_column), ', ' order by p.id)
    from embedd.pipelines p
    where p.relation = refuse_unwatched.relation);
  texts constant text[] := (
    select array_agg(a.attname::text order by a.attnum)
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.oid = refuse_unwatched.relation
      and c.relkind in ('r', 'p')
      and not c.relispartition
      and c.relnamespace not in ('pg_catalog'::regnamespace, 'embedd'::regnamespace)
      and a.atttypid in ('text'::regtype, 'varchar'::regtype)
      and a.attname <> coalesce(embedding_column, 'embedding') || '_model');
  other_column constant text := nullif(embedding_column, 'embedding');
begin
  if others is not null or texts is null then
    perform embedd.refuse('not_watched',
      case
        when embedding_column is null then format('%s is not watched', own_name)
        when others is null then format('column %I of %s is not watched', embedding_column, own_name)
        else format('column %I of %s is not watched, but %s is', embedding_column, own_name, others) end,
      'select * from embedd.status;', 'embedd status');
  end if;
  perform embedd.refuse('not_watched',
    case when embedding_column is null then format('%s is not watched', own_name)
      else format('column %I of %s is not watched', embedding_column, own_name) end,
    format('select embedd.watch(%L, array[%s]%s);', own_name,
      (select string_agg(quote_literal(name), ', ' order by position) from unnest(texts) with ordinality u (name, position)),
      coalesce(', embedding_column => ' || quote_literal(other_column), '')),
    format('embedd watch %s --content %s%s --create-columns', embedd.shell_word(own_name),
      (select string_agg(embedd.shell_word(name), ' ' order by position) from unnest(texts) with ordinality u (name, position)),
      coalesce(' --embedding ' || embedd.shell_word(other_column), '')));
end $$;
comment on function embedd.refuse_unwatched(regclass, text) is
  'Refuses a table, or an embedding column, that is not watched, and says how to watch it.';

create function embedd.pipelines_of(
  relation text,
  embedding_column text default null,
  path text default embedd.caller_path()
) returns setof integer
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  target constant regclass := embedd.resolve_watched(relation, path);
begin
  return query
    select p.id
    from embedd.pipelines p
    where p.relation = target
      and p.embedding_column = coalesce(pipelines_of.embedding_column, p.embedding_column)
    order by p.id;
  if not found then
    perform embedd.refuse_unwatched(target, embedding_column);
  end if;
end $$;
comment on function embedd.pipelines_of is
  'The pipelines of a table, or of one embedding column; refuses if there is none.';

create function embedd.check_relation(relation regclass) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  c pg_class;
  kind text;
  last_name text;
begin
  select * into c from pg_class where oid = relation;
  if not found then
    select embedd.relation_text(p) into last_name from embedd.pipelines p where p.relation = check_relation.relation limit 1;
    perform embedd.refuse('no_such_table', format('table %s was dropped', coalesce(last_name, embedd.name_of(relation))),
      coalesce('select embedd.unwatch(' || quote_literal(last_name) || ');', 'select * from embedd.status;'),
      coalesce('embedd unwatch ' || embedd.shell_word(last_name), 'embedd status'));
  end if;
  kind := case c.relkind
    when 'v' then 'a view'
    when 'm' then 'a materialized view'
    when 'f' then 'a foreign table'
    when 'S' then 'a sequence'
    when 'c' then 'a composite type'
    when 'i' then 'an index'
    when 'I' then 'an index' end;
  if kind is not null then
    perform embedd.refuse('not_a_table',
      format('%s is %s, and triggers can only wake embedd from a table', embedd.name_of(relation), kind),
      case when c.relkind in ('v', 'm') then 'watch the table it reads from'
      when c.relkind = 'f' then 'watch it on the server where it lives' end);
  elsif c.relpersistence = 't' then
    perform embedd.refuse('temporary_table',
      format('%s is temporary, and no other connection can see it', embedd.name_of(relation)),
      'watch a permanent table');
  elsif c.relnamespace = 'pg_catalog'::regnamespace
     or (c.relnamespace = 'embedd'::regnamespace and c.relname <> 'chunks') then
    perform embedd.refuse('system_table',
      format('%s belongs to the system', embedd.name_of(relation)),
      'watch one of your own tables');
  elsif c.relispartition then
    perform embedd.refuse('partition',
      format('%s is a partition', embedd.name_of(relation)),
      format('watch %s', (select embedd.name_of(inhparent) from pg_inherits where inhrelid = relation)));
  elsif exists (select from pg_inherits where inhrelid = relation)
     or (c.relkind = 'r' and exists (select from pg_inherits where inhparent = relation)) then
    perform embedd.refuse('inheritance',
      format('%s takes part in table inheritance, where a primary key does not identify a row', embedd.name_of(relation)),
      'use declarative partitioning, or ALTER TABLE ... NO INHERIT');
  end if;
end $$;
comment on function embedd.check_relation(regclass) is 'Refuses a relation that cannot be watched.';

create function embedd.find_column(relation regclass, name text, hint text, shell_hint text default null)
returns pg_attribute
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  found pg_attribute;
begin
  select * into found
  from pg_attribute
  where attrelid = relation and attname = name and attnum > 0 and not attisdropped;
  if found.attnum is null then
    perform embedd.refuse('no_such_column',
      format('table %s has no column %I', embedd.name_of(relation), name), hint, shell_hint);
  end if;
  return found;
end $$;
comment on function embedd.find_column(regclass, text, text, text) is
  'A column of a table; refuses with the hint if there is none.';

create function embedd.check_embedding_column(relation regclass, embedding_column text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  a constant pg_attribute := embedd.find_column(relation, embedding_column,
    format('ALTER TABLE %s ADD COLUMN %I vector(384);', embedd.name_of(relation), embedding_column),
    format('ALTER TABLE %s ADD COLUMN %I vector(384);  -- or add --create-columns to embedd watch',
      embedd.name_of(relation), embedding_column));
begin
  if not exists (
    select from pg_type t
    join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
    join pg_extension e on e.oid = d.refobjid and e.extname = 'vector'
    where t.oid = a.atttypid and t.typname in ('vector', 'halfvec')) then
    perform embedd.refuse('embedding_type',
      format('column %I of %s is of type %s, not vector(n) or halfvec(n)',
        embedding_column, embedd.name_of(relation), embedd.type_name(a.atttypid, a.atttypmod)),
      format('ALTER TABLE %s ADD COLUMN another_name vector(384);  -- then watch that column', embedd.name_of(relation)));
  elsif a.atttypmod < 1 then
    perform embedd.refuse('no_dimension',
      format('column %I of %s has no fixed dimension', embedding_column, embedd.name_of(relation)),
      format('ALTER TABLE %s ALTER COLUMN %I TYPE %s(384);',
        embedd.name_of(relation), embedding_column, embedd.type_name(a.atttypid, null)));
  elsif a.attgenerated <> '' then
    perform embedd.refuse('generated_column',
      format('column %I of %s is generated and cannot be written', embedding_column, embedd.name_of(relation)),
      'watch an ordinary column');
  elsif a.attnotnull then
    perform embedd.refuse('not_null',
      format('column %I of %s is NOT NULL, but a pending row has NULL in it', embedding_column, embedd.name_of(relation)),
      format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', embedd.name_of(relation), embedding_column));
  end if;
end $$;
comment on function embedd.check_embedding_column(regclass, text) is 'Refuses a column that cannot hold embeddings.';

create function embedd.check_model_column(relation regclass, model_column text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  a constant pg_attribute := embedd.find_column(relation, model_column,
    format('ALTER TABLE %s ADD COLUMN %I text;', embedd.name_of(relation), model_column),
    format('ALTER TABLE %s ADD COLUMN %I text;  -- or add --create-columns to embedd watch',
      embedd.name_of(relation), model_column));
begin
  if a.atttypid not in ('text'::regtype, 'varchar'::regtype) or a.attgenerated <> '' or a.attnotnull then
    perform embedd.refuse('model_column',
      format('column %I of %s must be an ordinary, nullable text column', model_column, embedd.name_of(relation)),
      format('ALTER TABLE %s ADD COLUMN another_name text;  -- then name it as model_column', embedd.name_of(relation)),
      format('ALTER TABLE %s ADD COLUMN another_name text;  -- then name it with --model-column', embedd.name_of(relation)));
  end if;
end $$;
comment on function embedd.check_model_column(regclass, text) is 'Refuses a column that cannot hold the model name.';

create function embedd.check_content_columns(relation regclass, content_columns text[], taken text[]) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  name text;
begin
  if coalesce(cardinality(content_columns), 0) = 0 then
    perform embedd.refuse('no_content', 'name at least one content column',
      format('select embedd.watch(%L, array[''body'']);', embedd.name_of(relation)),
      format('embedd watch %s --content body', embedd.shell_word(embedd.name_of(relation))));
  end if;
  foreach name in array content_columns loop
    perform embedd.find_column(relation, name, format('its columns: %s', (
      select string_agg(quote_ident(attname), ', ' order by attnum)
      from pg_attribute
      where attrelid = relation and attnum > 0 and not attisdropped)));
    if name = any (taken) then
      perform embedd.refuse('content_column',
        format('column %I of %s is written by embedd, so it cannot be a content column', name, embedd.name_of(relation)),
        'name the columns that hold the text');
    end if;
  end loop;
  if cardinality(content_columns) <> (select count(distinct c) from unnest(content_columns) c) then
    perform embedd.refuse('content_column', 'a content column is named twice', 'name each column once');
  end if;
end $$;
comment on function embedd.check_content_columns(regclass, text[], text[]) is
  'Refuses content columns that are missing, repeated or taken by embedd.';

create function embedd.primary_key(relation regclass) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  keys text[];
begin
  select array_agg(a.attname::text order by k.ordinality) into keys
  from pg_index i
  cross join lateral unnest(i.indkey::smallint[]) with ordinality as k (attnum, ordinality)
  join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
  where i.indrelid = relation and i.indisprimary and k.ordinality <= i.indnkeyatts;
  if keys is null then
    perform embedd.refuse('no_primary_key',
      format('table %s has no primary key', embedd.name_of(relation)),
      format(case when embedd.attnums(relation, '{id}') = '{NULL}'
          then 'ALTER TABLE %s ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;  -- or ADD PRIMARY KEY (a, b)'
          else 'ALTER TABLE %s ADD PRIMARY KEY (id);  -- or other columns that identify a row' end,
        embedd.name_of(relation)));
  end if;
  return keys;
end $$;
comment on function embedd.primary_key(regclass) is
  'The columns of the primary key, in order; refuses a table without one.';

create function embedd.key_operators(key_index oid) returns table (attnum smallint, operator oid)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select u.attnum, ao.amopopr
  from pg_index i
  cross join lateral unnest(i.indkey::smallint[], i.indclass::oid[]) as u (attnum, opclass)
  join pg_opclass oc on oc.oid = u.opclass
  join pg_amop ao on ao.amopfamily = oc.opcfamily
    and ao.amopstrategy = 3
    and ao.amoplefttype = oc.opcintype
    and ao.amoprighttype = oc.opcintype
  where i.indexrelid = key_index
$$;
comment on function embedd.key_operators(oid) is 'The equality operator of each column of a unique index.';

-- Triggers for one event run in byte order of their names, and embedd's must see the row as the others leave it.
-- A name proves nothing: the owner of a table can give any to a trigger or an index.
create function embedd.trigger_functions() returns setof oid
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select f.oid
  from pg_proc f
  where f.pronamespace = 'embedd'::regnamespace
    and f.proname in ('tg_wake__after_write', 'tg_forget_vector__before_update')
$$;
comment on function embedd.trigger_functions() is 'The functions by which embedd''s triggers on watched tables are recognized.';

create function embedd.later_triggers(relation regclass) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select string_agg(quote_ident(t.tgname), ', ' order by t.tgname)
  from pg_trigger t
  where t.tgrelid = relation
    and not t.tgisinternal
    and t.tgfoid not in (select embedd.trigger_functions())
    and (t.tgtype & 19) = 19 /* row, before, update */
    and t.tgname collate "C" > 'zzz_embedd_0'
$$;
comment on function embedd.later_triggers(regclass) is
  'BEFORE UPDATE triggers that run after embedd''s and could change the text without it noticing.';

create function embedd.pipeline_is_whole(pipeline embedd.pipelines) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select exists (select from pg_class where oid = pipeline.relation)
    and not exists (
      select
      from unnest(pipeline.key_columns || pipeline.content_columns
        || array[pipeline.embedding_column, pipeline.model_column]) as needed (name)
      where not exists (
        select from pg_attribute a
        where a.attrelid = pipeline.relation and a.attname = needed.name and a.attnum > 0 and not a.attisdropped))
$$;
comment on function embedd.pipeline_is_whole(embedd.pipelines) is
  'Whether the pipeline''s table and all its columns still exist under these names.';


-- The numbers of columns mean something only in the table that they were read from, and a restored dump has others.
create function embedd.table_identity(relation regclass) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select format('%s/%s/%s',
    (select system_identifier from pg_control_system()),
    (select oid from pg_database where datname = current_database()),
    relation::oid)
$$;
comment on function embedd.table_identity(regclass) is 'Identifies a table among all servers, also after a restore.';

create function embedd.missing_columns(pipeline embedd.pipelines) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select format('a column that it needs is gone: %s; add it again, then: embedd repair %s',
    coalesce(
      string_agg(quote_ident(missing.name), ', ' order by missing.position) filter (where not missing.renamed),
      string_agg(quote_ident(missing.name), ', ' order by missing.position)),
    embedd.shell_word(format('%I.%I', pipeline.relation_schema, pipeline.relation_name)))
  from (
    select needed.name, needed.position,
      exists (
        select from pg_attribute a
        where a.attrelid = pipeline.relation and a.attnum = needed.attnum and not a.attisdropped
          and pipeline.relation_identity = embedd.table_identity(pipeline.relation)) as renamed
    from unnest(
      pipeline.key_columns || pipeline.content_columns || array[pipeline.embedding_column, pipeline.model_column],
      pipeline.key_attnums || pipeline.content_attnums || array[pipeline.embedding_attnum, pipeline.model_attnum])
      with ordinality as needed (name, attnum, position)
    where not exists (
      select from pg_attribute a
      where a.attrelid = pipeline.relation and a.attname = needed.name and a.attnum > 0 and not a.attisdropped)) as missing
  having count(*) > 0
$$;
comment on function embedd.missing_columns(embedd.pipelines) is
  'Names the pipeline''s columns that are gone, and says what to type; NULL if none is.';

-- src/database/key-sql.ts has the same condition for statements.
create function embedd.key_index(relation regclass, key_columns text[]) returns oid
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select i.indexrelid
  from pg_index i
  where i.indrelid = relation
    and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
    and i.indnkeyatts = cardinality(key_columns)
    and (
      select count(*)
      from pg_attribute a
      where a.attrelid = i.indrelid
        and a.attnum = any ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
        and a.attnotnull
        and a.attname = any (key_columns)) = cardinality(key_columns)
  order by i.indisprimary desc
  limit 1
$$;
comment on function embedd.key_index(regclass, text[]) is
  'A unique index of exactly these columns, all NOT NULL; the primary key if it is one. NULL if there is none.';

create function embedd.shape_problem(pipeline embedd.pipelines) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select case
    when not embedd.pipeline_is_whole(pipeline) then embedd.missing_columns(pipeline)
    when embedd.key_index(pipeline.relation, pipeline.key_columns) is null then format(
      '(%s) is no longer a unique key of NOT NULL columns; embedd repair %s',
      (select string_agg(quote_ident(name), ', ' order by ord) from unnest(pipeline.key_columns) with ordinality u (name, ord)),
      embedd.shell_word(own.name))
    when e.atttypmod < 1 or t.typname not in ('vector', 'halfvec') then format(
      'column %I is no longer vector(n) or halfvec(n); embedd unwatch --pipeline %s  # or give it such a type again',
      pipeline.embedding_column, pipeline.id)
    when heir.name is not null then format(
      'it takes part in table inheritance, where a key does not identify a row; ALTER TABLE %s NO INHERIT %s;',
      heir.name, heir.parent)
    when later.triggers is not null then format(
      'a BEFORE UPDATE trigger runs after embedd''s and could change the text unseen: %s; '
        'ALTER TRIGGER %s ON %s RENAME TO a_name_that_sorts_before_zzz_embedd;',
      later.triggers, split_part(later.triggers, ', ', 1), own.name)
  end
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  cross join lateral (select format('%I.%I', n.nspname, c.relname)) as own (name)
  cross join lateral (select embedd.later_triggers(c.oid)) as later (triggers)
  left join lateral (
    select embedd.name_of(h.inhrelid) as name, embedd.name_of(h.inhparent) as parent
    from pg_inherits h
    where c.relkind = 'r' and not c.relispartition and c.oid in (h.inhparent, h.inhrelid)
    limit 1) as heir on true
  left join pg_attribute e on e.attrelid = c.oid and e.attname = pipeline.embedding_column and not e.attisdropped
  left join pg_type t on t.oid = e.atttypid
  where c.oid = pipeline.relation
$$;
comment on function embedd.shape_problem(embedd.pipelines) is
  'Why no worker can serve the table as it is now, and what to type; NULL if one can, or if the table is gone.';

create function embedd.attnums(relation regclass, names text[]) returns smallint[]
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select array_agg(a.attnum order by u.position)
  from unnest(names) with ordinality as u (name, position)
  left join pg_attribute a on a.attrelid = relation and a.attname = u.name and a.attnum > 0 and not a.attisdropped
$$;
comment on function embedd.attnums(regclass, text[]) is 'The numbers of a table''s columns; NULL for a missing one.';

create function embedd.table_tree(relation regclass) returns setof regclass
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select relation
  union
  select t.relid from pg_partition_tree(relation) t
$$;
comment on function embedd.table_tree(regclass) is 'A table and its partitions.';

-- Unlike to_regclass(), needs no privilege on the schema.
create function embedd.table_named(schema_name text, table_name text) returns regclass
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select c.oid::regclass
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = schema_name and c.relname = table_name and c.relkind in ('r', 'p')
$$;
comment on function embedd.table_named(text, text) is 'The table with this name; NULL if there is none.';

-- Every change of a trigger, such as DISABLE TRIGGER, writes a new version of its row of pg_trigger. Its xmin tells: neither
-- VACUUM FREEZE nor VACUUM FULL changes it, nor does a change of the table or its columns. The triggers that wake workers do
-- not count, because the poll finds what they miss.
create function embedd.trigger_versions(relation regclass, pipeline_id integer) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select coalesce(jsonb_object_agg(own.relation, own.versions), '{}')
  from (
    select t.tgrelid::oid::text as relation, md5(string_agg(format('%s %s', t.oid, t.xmin), ' ' order by t.tgname)) as versions
    from pg_trigger t
    where t.tgrelid in (
        select trigger_versions.relation::oid
        union
        select tree.relid from pg_partition_tree(trigger_versions.relation) tree)
      and t.tgname ~ format('^zzz_embedd_%s__before_', pipeline_id)
      and t.tgfoid in (select embedd.trigger_functions())
    group by t.tgrelid) as own
$$;
comment on function embedd.trigger_versions(regclass, integer) is
  'By OID of a table and each partition: what changes whenever a trigger that drops outdated vectors is altered.';

-- What to type stands after the semicolon.
create function embedd.table_problem(pipeline embedd.pipelines) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  last_name constant text := quote_ident(pipeline.relation_schema) || '.' || quote_ident(pipeline.relation_name);
  successor constant regclass := embedd.table_named(pipeline.relation_schema, pipeline.relation_name);
  known boolean;
  present_name text;
  -- A command that names a watched successor would never reach this pipeline.
  by_number constant text := (
    select format('another table has its name and is watched too; embedd unwatch --pipeline %s', pipeline.id)
    where exists (select from embedd.pipelines p where p.relation = successor));
begin
  select format('%I.%I', n.nspname, c.relname) into present_name
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.oid = pipeline.relation;
  known := pipeline.relation_identity is not distinct from embedd.table_identity(pipeline.relation);
  if present_name is null or (not known and present_name <> last_name) then
    if by_number is not null then
      return by_number;
    elsif successor is not null then
      return format('another table has replaced it under the same name; embedd repair %s --existing refresh  # or keep',
        embedd.shell_word(last_name));
    end if;
    return format('its table is gone; embedd unwatch %s', embedd.shell_word(last_name));
  elsif present_name <> last_name and by_number is not null then
    return format('it is called %s now, and %s; to follow the old table: embedd repair %s --existing keep',
      present_name, by_number, embedd.shell_word(present_name));
  elsif present_name <> last_name and successor is not null then
    return format('it is called %s now, and another table has its name; embedd repair %s --existing refresh  # or keep; '
      'to follow the old table: embedd repair %s --existing keep',
      present_name, embedd.shell_word(last_name), embedd.shell_word(present_name));
  elsif present_name <> last_name and known and pipeline.replaced_by is not null then
    return format('it is called %s now, and %s had its name meanwhile; embedd repair %s --existing keep  # follows the old table',
      present_name, coalesce(
        (select format('%I.%I', n.nspname, c.relname)
          from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
          where c.oid = pipeline.replaced_by),
        'a table that is gone'),
      embedd.shell_word(present_name));
  end if;
  return null;
end $$;
comment on function embedd.table_problem(embedd.pipelines) is
  'Says that the table is gone, was replaced or swapped, and what to type; NULL if it is the one that was watched.';

create function embedd.remember(pipeline embedd.pipelines) returns embedd.pipelines
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  columns smallint[] := embedd.attnums(pipeline.relation, array[pipeline.embedding_column, pipeline.model_column]);
  identity constant text := embedd.table_identity(pipeline.relation);
begin
  -- A table that was swapped away keeps its last name, until it is repaired.
  if pipeline.relation_name is null or embedd.table_problem(pipeline) is null then
    select n.nspname, c.relname into pipeline.relation_schema, pipeline.relation_name
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.oid = pipeline.relation;
  end if;
  if pipeline.relation_identity is distinct from identity then
    pipeline.relation_identity := identity;
    pipeline.trigger_versions := embedd.trigger_versions(pipeline.relation, pipeline.id);
    pipeline.replaced_by := null;
  end if;
  pipeline.key_attnums := embedd.attnums(pipeline.relation, pipeline.key_columns);
  pipeline.content_attnums := embedd.attnums(pipeline.relation, pipeline.content_columns);
  pipeline.embedding_attnum := columns[1];
  pipeline.model_attnum := columns[2];
  return pipeline;
end $$;
comment on function embedd.remember(embedd.pipelines) is
  'The pipeline with the present name of its table and the present numbers of its columns.';

create function embedd.tg_pipelines__before_write() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  return embedd.remember(new);
end $$;
comment on function embedd.tg_pipelines__before_write() is 'Remembers by what a table and its columns are recognized.';
create trigger pipelines__before_write
  before insert or update of relation, key_columns, content_columns, embedding_column, model_column
  on embedd.pipelines
  for each row
  execute function embedd.tg_pipelines__before_write();

create function embedd.column_names(relation regclass, attnums smallint[]) returns text[]
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select case when count(*) = count(a.attname) then array_agg(a.attname::text order by u.position) end
  from unnest(attnums) with ordinality as u (attnum, position)
  left join pg_attribute a on a.attrelid = relation and a.attnum = u.attnum and not a.attisdropped
$$;
comment on function embedd.column_names(regclass, smallint[]) is
  'The present names of columns, by number; NULL if one is gone.';

-- Runs as embedd's owner, because workers may not change a pipeline's names.
create function embedd.follow_names() returns setof integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp as $$
declare
  pipeline embedd.pipelines;
  keys text[];
  content text[];
  own text[];
  new_template text;
  position integer;
begin
  -- Every UPDATE of these columns notifies all workers, even one of no row, so each runs only where it is needed.
  for pipeline in
    -- A restored dump: its columns have other numbers now.
    select p.*
    from embedd.pipelines p
    join pg_class c on c.oid = p.relation
    join pg_namespace n on n.oid = c.relnamespace
    where p.relation_identity is distinct from embedd.table_identity(p.relation)
      and (p.relation_schema is null or (p.relation_schema, p.relation_name) = (n.nspname::text, c.relname::text))
  loop
    update embedd.pipelines p set relation = p.relation where p.id = pipeline.id;
    update embedd.grants g
    set object_number = coalesce(
      case when g.privilege = 'USAGE' then (select n.oid::bigint from pg_namespace n where n.nspname = g.object_name)
        else (select a.attnum::bigint from pg_attribute a where a.attrelid = pipeline.relation and a.attname = g.object_name) end,
      g.object_number)
    where g.pipeline_id = pipeline.id;
  end loop;
  for pipeline in
    select p.*
    from embedd.pipelines p
    where p.relation_identity = embedd.table_identity(p.relation)
  loop
    keys := embedd.column_names(pipeline.relation, pipeline.key_attnums);
    content := embedd.column_names(pipeline.relation, pipeline.content_attnums);
    own := embedd.column_names(pipeline.relation, array[pipeline.embedding_attnum, pipeline.model_attnum]);
    if row(keys, content, own) is distinct from row(
        pipeline.key_columns, pipeline.content_columns, array[pipeline.embedding_column, pipeline.model_column])
      and keys is not null and content is not null and own is not null
    then
      new_template := pipeline.template;
      -- Two steps, so that columns can swap their names.
      for position in 1 .. cardinality(content) loop
        new_template := replace(new_template,
          '{' || pipeline.content_columns[position] || '}', '{' || chr(1) || position || chr(1) || '}');
      end loop;
      for position in 1 .. cardinality(content) loop
        new_template := replace(new_template, chr(1) || position || chr(1), content[position]);
      end loop;
      update embedd.grants g
      set object_name = renamed.new_name
      from unnest(
        pipeline.key_columns || pipeline.content_columns || pipeline.embedding_column || pipeline.model_column,
        keys || content || own) as renamed (old_name, new_name)
      where g.pipeline_id = pipeline.id
        and g.privilege <> 'USAGE'
        and g.object_name = renamed.old_name
        and renamed.old_name <> renamed.new_name;
      update embedd.pipelines p
      set key_columns = keys, content_columns = content, embedding_column = own[1], model_column = own[2],
        template = new_template
      where p.id = pipeline.id;
      return next pipeline.id;
    end if;
  end loop;
  -- Partitions that came since.
  update embedd.pipelines p
  set trigger_versions = now.versions || coalesce((
    select jsonb_object_agg(key, value)
    from jsonb_each(p.trigger_versions)
    where exists (select from pg_class c where c.oid::text = key)), '{}')
  from (select q.id, embedd.trigger_versions(q.relation, q.id) as versions from embedd.pipelines q) as now
  where now.id = p.id
    and p.relation_identity = embedd.table_identity(p.relation)
    and not coalesce(p.trigger_versions ?& array(select jsonb_object_keys(now.versions)), false);
  update embedd.pipelines p
  set replaced_by = found.successor
  from (
    select q.id,
      case when (q.relation_schema, q.relation_name) is distinct from (n.nspname::text, c.relname::text)
        then coalesce(embedd.table_named(q.relation_schema, q.relation_name), q.replaced_by) end as successor
    from embedd.pipelines q
    join pg_class c on c.oid = q.relation
    join pg_namespace n on n.oid = c.relnamespace
    where q.relation_identity = embedd.table_identity(q.relation)) as found
  where p.id = found.id and p.replaced_by is distinct from found.successor;
  return query
    update embedd.pipelines p
    set relation_schema = n.nspname, relation_name = c.relname
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.oid = p.relation
      and (p.relation_schema, p.relation_name) is distinct from (n.nspname::text, c.relname::text)
      and p.relation_identity = embedd.table_identity(p.relation)
      and p.replaced_by is null
    returning p.id;
end $$;
comment on function embedd.follow_names() is
  'Follows renamed tables and columns, unless another table has taken the old name. Returns their pipelines.';

create function embedd.relation_text(pipeline embedd.pipelines) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select case
    when pipeline.relation_name is null or exists (select from pg_class c where c.oid = pipeline.relation)
      then embedd.name_of(pipeline.relation)
    else format('%I.%I', pipeline.relation_schema, pipeline.relation_name)
  end
$$;
comment on function embedd.relation_text(embedd.pipelines) is 'The table as SQL names it; its last name if it is gone.';

create function embedd.trigger_events() returns text[]
language sql immutable
set search_path = pg_catalog, pg_temp as $$
  select array['after_insert', 'before_edit', 'before_unread', 'before_save', 'before_save_unread', 'after_update']
$$;
comment on function embedd.trigger_events() is 'What the names of a pipeline''s triggers end with.';

-- ENABLE TRIGGER USER and pg_restore --disable-triggers enable before_edit and before_unread for local changes only,
-- whereas embedd enables them ALWAYS. So they were disabled for a while, and nobody knows what was edited meanwhile. Each
-- partition has its own clones.
create function embedd.find_gap(pipeline embedd.pipelines) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select coalesce(
    (select format('column %s was dropped and added again', string_agg(quote_ident(u.name), ', '))
      from unnest(
        pipeline.content_columns || array[pipeline.embedding_column, pipeline.model_column],
        pipeline.content_attnums || array[pipeline.embedding_attnum, pipeline.model_attnum]) as u (name, attnum)
      join pg_attribute a on a.attrelid = pipeline.relation and a.attname = u.name and not a.attisdropped
      join pg_attribute old on old.attrelid = pipeline.relation and old.attnum = u.attnum and old.attisdropped
      where pipeline.relation_identity = embedd.table_identity(pipeline.relation)
      having count(*) > 0),
    (select format('triggers are missing: %s', string_agg(needed.event, ', '))
      from unnest(embedd.trigger_events()) as needed (event)
      left join pg_trigger t on t.tgrelid = pipeline.relation
        and t.tgname = format('zzz_embedd_%s__%s', pipeline.id, needed.event)
        and t.tgfoid in (select embedd.trigger_functions())
      where t.oid is null
      having count(*) > 0),
    (select format('triggers %s disabled: %s',
        case when bool_or(t.tgenabled in ('D', 'R')) then 'are' else 'were' end,
        string_agg(needed.event || owner.suffix, ', ' order by owner.suffix, needed.position))
      from (
        select pipeline.relation::oid, ''
        union
        select tree.relid, format(' of partition %s', embedd.name_of(tree.relid))
        from pg_partition_tree(pipeline.relation) tree
        where tree.level > 0) as owner (relation, suffix)
      cross join unnest(embedd.trigger_events())
        with ordinality as needed (event, position)
      join pg_trigger t on t.tgrelid = owner.relation
        and t.tgname = format('zzz_embedd_%s__%s', pipeline.id, needed.event)
        and t.tgfoid in (select embedd.trigger_functions())
      where t.tgenabled in ('D', 'R') or (t.tgenabled = 'O' and needed.event in ('before_edit', 'before_unread'))
      having count(*) > 0),
    (select format('triggers were altered%s: %s',
        case when bool_or(now.key <> pipeline.relation::oid::text) then ', or partitions detached for a while' end,
        string_agg(embedd.name_of(now.key::oid), ', ' order by now.key::oid))
      from jsonb_each_text(embedd.trigger_versions(pipeline.relation, pipeline.id)) as now
      join jsonb_each_text(pipeline.trigger_versions) as old on old.key = now.key
      where old.value <> now.value
        and pipeline.relation_identity = embedd.table_identity(pipeline.relation)
      having count(*) > 0))
$$;
comment on function embedd.find_gap(embedd.pipelines) is
  'Why an edit may now keep the vector of its old text; NULL if all triggers and columns are there.';

create function embedd.pending_index_name(pipeline_id integer) returns text
language sql immutable
set search_path = pg_catalog, pg_temp as $$
  select format('embedd_%s_pending', pipeline_id)
$$;
comment on function embedd.pending_index_name(integer) is 'The name of the index of pending rows.';

-- An index that is being built is no flaw.
create function embedd.find_flaw(pipeline embedd.pipelines) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select format('the index of pending rows is %s', case when i.indexrelid is null then 'missing' else 'invalid' end)
  from (select) as one
  left join (
    pg_class x join pg_index i on i.indexrelid = x.oid)
    on i.indrelid = pipeline.relation and x.relname = embedd.pending_index_name(pipeline.id)
  where i.indisvalid is not true
    and pipeline.created_at < now() - interval '1 min'
    and not exists (select from pg_stat_progress_create_index b where b.relid = pipeline.relation)
$$;
comment on function embedd.find_flaw(embedd.pipelines) is
  'What embedd.repair cures without a question, because no vector is outdated; NULL if nothing is wrong.';

-- The index of a switch's new column is the switch's business.
create function embedd.repairable_problem(pipeline embedd.pipelines, gap text) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select coalesce(
    'vectors may belong to earlier texts: ' || repairable_problem.gap
      || format('; embedd repair %s --existing refresh  # or keep', embedd.shell_word(own.name)),
    case when pipeline.shadow_of is null then embedd.find_flaw(pipeline) end
      || format('; embedd repair %s', embedd.shell_word(own.name)))
  from (select format('%I.%I', pipeline.relation_schema, pipeline.relation_name)) as own (name)
$$;
comment on function embedd.repairable_problem(embedd.pipelines, text) is
  'What is wrong with a table that workers serve all the same, and what to type; NULL if nothing is. gap: from embedd.find_gap, '
  'or the pipeline''s own.';

-- Escapes name characters by the server's own codes: Unicode only in UTF8. Other encodings get the characters that they
-- have; bytes of SQL_ASCII have no meaning.
create function embedd.not_white_space() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  class text := '\s';
  bytes text;
begin
  if getdatabaseencoding() in ('UTF8', 'SQL_ASCII') then
    return '[^\s\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]';
  end if;
  foreach bytes in array array['c285', 'c2a0', 'e19a80', 'e28080', 'e28081', 'e28082', 'e28083', 'e28084', 'e28085', 'e28086',
    'e28087', 'e28088', 'e28089', 'e2808a', 'e280a8', 'e280a9', 'e280af', 'e2819f', 'e38080', 'efbbbf'] loop
    begin
      class := class || convert_from(decode(bytes, 'hex'), 'UTF8');
    exception when untranslatable_character or character_not_in_repertoire then
      null;
    end;
  end loop;
  return format('[^%s]', class);
end $$;
comment on function embedd.not_white_space() is
  'A regular expression: a character that is not white space. JavaScript''s \s, so that SQL and the worker agree.';

-- octet_length does not read a long value of these types.
create function embedd.size_of(type oid, expression text) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select format(
    case
      when coalesce(nullif(t.typbasetype, 0), t.oid) = 'bpchar'::regtype then 'octet_length(%s)'
      when coalesce(nullif(t.typbasetype, 0), t.oid) in ('text'::regtype, 'varchar'::regtype)
        or (t.typname = 'citext' and t.typcategory = 'S') then 'octet_length(%s::text)'
      else 'pg_column_size(%s)'
    end, expression)
  from pg_type t
  where t.oid = size_of.type
$$;
comment on function embedd.size_of(oid, text) is
  'SQL for the bytes of a value, without reading it: of its text, or as stored if its type is no text.';

-- The first thousand characters nearly always decide, without reading all of a large text.
create function embedd.text_predicate(relation regclass, content_columns text[]) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select string_agg(
    case when embedd.size_of(a.atttypid, '') like 'octet%'
      then format($f$(left(%1$I::text, 1000) collate "C" ~ %2$L or %1$I::text collate "C" ~ %2$L)$f$,
        a.attname, embedd.not_white_space())
      else format('%I is not null', a.attname)
    end, ' or ' order by c.ordinality)
  from unnest(content_columns) with ordinality as c (name, ordinality)
  join pg_attribute a on a.attrelid = relation and a.attname = c.name and not a.attisdropped
$$;
comment on function embedd.text_predicate(regclass, text[]) is
  'SQL condition: a text that is not blank. Reads the text. Names are quoted.';

-- Every writer evaluates it for the index of pending rows, so it must never raise. A long text may be damaged, or take
-- too much memory as a regular expression reads it. So one of more than 200 bytes counts as not blank, by its size
-- alone, and the worker finds out: it records the row as white space.
create function embedd.pending_predicate(relation regclass, content_columns text[], embedding_column text) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select format('%I is null and (%s)', embedding_column, string_agg(
    case when embedd.size_of(a.atttypid, '') like 'octet%'
      then format($f$(%1$s > 200 or %2$I::text collate "C" ~ %3$L)$f$,
        embedd.size_of(a.atttypid, quote_ident(a.attname)), a.attname, embedd.not_white_space())
      else format('%I is not null', a.attname)
    end, ' or ' order by c.ordinality))
  from unnest(content_columns) with ordinality as c (name, ordinality)
  join pg_attribute a on a.attrelid = relation and a.attname = c.name and not a.attisdropped
$$;
comment on function embedd.pending_predicate(regclass, text[], text) is
  'SQL condition for pending rows: no vector, and a text that is long or not blank. Reads no long text. Names are quoted.';

-- A generated column is not computed yet when BEFORE triggers run, and counts as updated in every statement, so its
-- source columns stand for it.
create function embedd.source_columns(relation regclass, content_columns text[]) returns text[]
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select array_agg(distinct a.attname::text)
  from pg_attribute c
  join pg_attribute a on a.attrelid = relation and (
    (c.attgenerated = '' and a.attnum = c.attnum) or
    (c.attgenerated <> '' and a.attnum in (
      select d.refobjsubid
      from pg_depend d
      where d.refclassid = 'pg_class'::regclass and d.refobjid = relation and d.refobjsubid > 0
        and ((d.classid = 'pg_class'::regclass and d.objid = relation and d.objsubid = c.attnum)
          or (d.classid = 'pg_attrdef'::regclass and d.objid = (
            select ad.oid from pg_attrdef ad where ad.adrelid = relation and ad.adnum = c.attnum)))
        and d.refobjsubid <> c.attnum)))
  where c.attrelid = relation and c.attname = any (content_columns) and not c.attisdropped
$$;
comment on function embedd.source_columns(regclass, text[]) is 'The ordinary columns that the text is made of.';

-- Writers evaluate these conditions in the WHEN of triggers, so they must never raise: they read no value that is stored
-- apart from its row, call no function that a user made, and need no right that a writer may lack. Sizes are known without
-- reading: a text whose value is no larger than itself is compressed or stored apart. Bytes are compared, because equality
-- of a type or collation can hide a change (citext, numeric 1.0 and 1.00), and some types have no equality (json).
--
-- They are short, because PostgreSQL parses the WHEN of each trigger in every statement: 3 us per kilobyte of the stored form.
create function embedd.content_change(
  relation regclass,
  content_columns text[],
  out certain text,
  out unread text,
  out stored text)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  with columns as (
    select quote_ident(a.attname) as name,
      case
        when t.typlen > 0 then 'fixed'
        when embedd.size_of(t.oid, '') like 'octet%' then 'text'
        else 'other'
      end as kind,
      embedd.size_of(t.oid, 'old.' || quote_ident(a.attname)) as old_size,
      embedd.size_of(t.oid, 'new.' || quote_ident(a.attname)) as new_size
    from unnest(embedd.source_columns(relation, content_columns)) as c
    join pg_attribute a on a.attrelid = relation and a.attname = c
    join pg_type t on t.oid = a.atttypid
  )
  select
    string_agg(format(
      case kind
        when 'fixed' then 'row(old.%1$s)::record operator(pg_catalog.*<>) row(new.%1$s)::record'
        when 'text' then '%2$s is distinct from %3$s or least(pg_column_size(old.%1$s), pg_column_size(new.%1$s)) > %2$s '
          'and old.%1$s::text <> new.%1$s::text collate "C"'
        else '(%2$s is null) <> (%3$s is null)'
      end, name, old_size, new_size), ' or '),
    coalesce(string_agg(format(
      case kind
        when 'text' then '%2$s = %3$s and least(pg_column_size(old.%1$s), pg_column_size(new.%1$s)) <= %2$s'
        else '%2$s is not null and %3$s is not null'
      end, name, old_size, new_size), ' or ') filter (where kind <> 'fixed'), 'false'),
    string_agg(format(
      case kind
        when 'fixed' then 'row(old.%1$s)::record operator(pg_catalog.*<>) row(new.%1$s)::record'
        when 'text' then 'pg_column_size(old.%1$s) is distinct from pg_column_size(new.%1$s) or pg_column_size(old.%1$s) > %2$s '
          'and old.%1$s::text <> new.%1$s::text collate "C"'
        else '%2$s is distinct from %3$s'
      end, name, old_size, new_size), ' or ')
  from columns
$$;
comment on function embedd.content_change(regclass, text[]) is
  'SQL conditions for the WHEN of a trigger. certain: the UPDATE changed the text. unread: reading the text may show that '
  'it did. stored: a value is stored in another size, or the UPDATE changed a text that needs no reading. Names are quoted.';

-- A policy for PUBLIC, such as one on a tenant setting, was not made for a worker: it may hide rows without a word. A
-- permissive policy that names the role was. Restrictive policies for PUBLIC narrow even that one.
create function embedd.hidden_rows(relation regclass) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select format('%s from role %I: ALTER ROLE %2$I BYPASSRLS;  -- or create a policy for it: '
      'CREATE POLICY %3$I ON %4$s TO %2$I USING (true);',
    case
      when policies.public > 0 then 'a row-level security policy for PUBLIC may hide its rows'
      else 'row-level security hides its rows'
    end,
    current_user, 'embedd_' || current_user, embedd.name_of(relation))
  from pg_class c
  cross join lateral (
    select
      count(*) filter (where 0 = any (l.polroles)) as public,
      count(*) filter (where 0 = any (l.polroles) and not l.polpermissive) as narrowing,
      count(*) filter (where own.named and l.polcmd in ('*', 'r')) as to_read,
      count(*) filter (where own.named and l.polcmd in ('*', 'w')) as to_write
    from pg_policy l
    cross join lateral (
      select l.polpermissive and exists (
        select from pg_roles r where r.oid = any (l.polroles) and r.rolname = current_user) as named) as own
    where l.polrelid = c.oid) as policies
  where c.oid = relation
    and row_security_active(c.oid)
    and (policies.to_read = 0 or policies.to_write = 0 or policies.narrowing > 0)
$$;
comment on function embedd.hidden_rows(regclass) is
  'Why row-level security may hide rows of the table from the current role, and what to type; NULL: it does not. '
  'A policy that names the role, for reading and updating, counts as the owner''s consent; one for PUBLIC does not.';
