--! Previous: sha1:e88623075cc97ce4af98be6c7474b620e0e57c25
--! Hash: sha1:55e228afed1a1ef8d6943a61e3e30fb1afc30efd
--! Message: shape

-- The shape of a watched table: checks before it is watched, and SQL conditions built from its columns. Every refusal
-- says what to type.

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
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p')
      and n.nspname !~ '^pg_'
      and n.nspname <> 'information_schema'
      and lower(c.relname) = lower(regexp_replace(relation_name, '^.*\.', ''))
    order by (n.nspname = 'public') desc, n.nspname
    limit 1;
    perform embedd.refuse('no_such_table',
      format('there is no table %s', relation_name),
      case when candidate is null then 'write schema.table; psql''s \dt *.* lists the tables'
      else format('did you mean %s?', candidate) end);
  end if;
  return found;
end $$;
comment on function embedd.resolve(text) is 'The table with this name; refuses with a suggestion if there is none.';

create function embedd.check_relation(relation regclass) returns void
language plpgsql stable as $$
declare
  c pg_class;
  kind text;
begin
  select * into strict c from pg_class where oid = relation;
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
      format('%s is %s, and triggers can only wake embedd from a table', relation, kind),
      case when c.relkind in ('v', 'm') then 'watch the table it reads from'
      when c.relkind = 'f' then 'watch it on the server where it lives' end);
  elsif c.relpersistence = 't' then
    perform embedd.refuse('temporary_table',
      format('%s is temporary, and no other connection can see it', relation),
      'watch a permanent table');
  elsif c.relnamespace = 'pg_catalog'::regnamespace
     or (c.relnamespace = 'embedd'::regnamespace and c.relname <> 'chunks') then
    perform embedd.refuse('system_table',
      format('%s belongs to the system', relation),
      'watch one of your own tables');
  elsif c.relispartition then
    perform embedd.refuse('partition',
      format('%s is a partition', relation),
      format('watch %s', (select inhparent::regclass from pg_inherits where inhrelid = relation)));
  elsif exists (select from pg_inherits where inhrelid = relation)
     or (c.relkind = 'r' and exists (select from pg_inherits where inhparent = relation)) then
    perform embedd.refuse('inheritance',
      format('%s takes part in table inheritance, where a primary key does not identify a row', relation),
      'use declarative partitioning, or ALTER TABLE ... NO INHERIT');
  end if;
end $$;
comment on function embedd.check_relation(regclass) is 'Refuses a relation that cannot be watched.';

create function embedd.check_embedding_column(relation regclass, embedding_column text) returns void
language plpgsql stable as $$
declare
  a pg_attribute;
begin
  select * into a
  from pg_attribute
  where attrelid = relation and attname = embedding_column and attnum > 0 and not attisdropped;
  if not found then
    perform embedd.refuse('no_such_column',
      format('table %s has no column %I', relation, embedding_column),
      format('ALTER TABLE %s ADD COLUMN %I vector(384);', relation, embedding_column));
  elsif not exists (
    select from pg_type t
    join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
    join pg_extension e on e.oid = d.refobjid and e.extname = 'vector'
    where t.oid = a.atttypid and t.typname in ('vector', 'halfvec')) then
    perform embedd.refuse('embedding_type',
      format('column %I of %s is of type %s, not vector(n) or halfvec(n)',
        embedding_column, relation, format_type(a.atttypid, a.atttypmod)),
      format('ALTER TABLE %s ADD COLUMN another_name vector(384); then watch that column', relation));
  elsif a.atttypmod < 1 then
    perform embedd.refuse('no_dimension',
      format('column %I of %s has no fixed dimension', embedding_column, relation),
      format('ALTER TABLE %s ALTER COLUMN %I TYPE %s(384);', relation, embedding_column, format_type(a.atttypid, null)));
  elsif a.attgenerated <> '' then
    perform embedd.refuse('generated_column',
      format('column %I of %s is generated and cannot be written', embedding_column, relation),
      'watch an ordinary column');
  elsif a.attnotnull then
    perform embedd.refuse('not_null',
      format('column %I of %s is NOT NULL, but a pending row has NULL in it', embedding_column, relation),
      format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', relation, embedding_column));
  end if;
end $$;
comment on function embedd.check_embedding_column(regclass, text) is 'Refuses a column that cannot hold embeddings.';

create function embedd.check_model_column(relation regclass, model_column text) returns void
language plpgsql stable as $$
declare
  a pg_attribute;
begin
  select * into a
  from pg_attribute
  where attrelid = relation and attname = model_column and attnum > 0 and not attisdropped;
  if not found then
    perform embedd.refuse('no_such_column',
      format('table %s has no column %I for the model name', relation, model_column),
      format('ALTER TABLE %s ADD COLUMN %I text;', relation, model_column));
  elsif a.atttypid not in ('text'::regtype, 'varchar'::regtype) or a.attgenerated <> '' or a.attnotnull then
    perform embedd.refuse('model_column',
      format('column %I of %s must be an ordinary, nullable text column', model_column, relation),
      format('ALTER TABLE %s ADD COLUMN another_name text; then watch that column', relation));
  end if;
end $$;
comment on function embedd.check_model_column(regclass, text) is 'Refuses a column that cannot hold the model name.';

create function embedd.check_content_columns(relation regclass, content_columns text[], taken text[]) returns void
language plpgsql stable as $$
declare
  name text;
begin
  if coalesce(cardinality(content_columns), 0) = 0 then
    perform embedd.refuse('no_content', 'name at least one content column', 'embedd watch docs --content body');
  end if;
  foreach name in array content_columns loop
    if not exists (
      select from pg_attribute
      where attrelid = relation and attname = name and attnum > 0 and not attisdropped) then
      perform embedd.refuse('no_such_column',
        format('table %s has no column %I', relation, name),
        format('its columns: %s', (
          select string_agg(quote_ident(attname), ', ' order by attnum)
          from pg_attribute
          where attrelid = relation and attnum > 0 and not attisdropped)));
    elsif name = any (taken) then
      perform embedd.refuse('content_column',
        format('column %I of %s is written by embedd, so it cannot be a content column', name, relation),
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
    perform embedd.refuse('no_primary_key',
      format('table %s has no primary key', relation),
      format('ALTER TABLE %s ADD PRIMARY KEY (...); or ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;',
        relation));
  end if;
  return keys;
end $$;
comment on function embedd.primary_key(regclass) is
  'The columns of the primary key, in order; refuses a table without one.';

-- Triggers for one event run in byte order of their names, and embedd's must see the row as the others leave it.
create function embedd.later_triggers(relation regclass) returns text
language sql stable as $$
  select string_agg(quote_ident(t.tgname), ', ' order by t.tgname)
  from pg_trigger t
  where t.tgrelid = relation
    and not t.tgisinternal
    and t.tgname not like 'zzz\_embedd\_%'
    and (t.tgtype & 19) = 19 /* row, before, update */
    and t.tgname collate "C" > 'zzz_embedd_'
$$;
comment on function embedd.later_triggers(regclass) is
  'BEFORE UPDATE triggers that run after embedd''s and could change the text without it noticing.';

create function embedd.pipeline_is_whole(pipeline embedd.pipelines) returns boolean
language sql stable as $$
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

-- White space means JavaScript's \s, so that SQL and the worker agree on what is blank. The first thousand characters
-- nearly always decide, without reading all of a large text.
create function embedd.pending_predicate(relation regclass, content_columns text[], embedding_column text) returns text
language sql stable as $$
  select format('%I is null and (%s)', embedding_column, string_agg(
    case
      when coalesce(nullif(t.typbasetype, 0), t.oid) in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype)
        or (t.typname = 'citext' and t.typcategory = 'S')
      then format($f$(left(%1$I::text, 1000) collate "C" ~ %2$L or %1$I::text collate "C" ~ %2$L)$f$, a.attname,
        '[^\s\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]')
      else format('%I is not null', a.attname)
    end, ' or ' order by c.ordinality))
  from unnest(content_columns) with ordinality as c (name, ordinality)
  join pg_attribute a on a.attrelid = relation and a.attname = c.name and not a.attisdropped
  join pg_type t on t.oid = a.atttypid
$$;
comment on function embedd.pending_predicate(regclass, text[], text) is
  'SQL condition for pending rows: no vector, and a text that is not blank. Names are quoted.';

-- Compares bytes: equality of a type or collation can hide a change (citext, numeric 1.0 and 1.00), and some types have
-- no equality (json). A generated column is not computed yet when BEFORE triggers run, so its source columns are
-- compared instead.
create function embedd.content_changed(relation regclass, content_columns text[]) returns text
language sql stable as $$
  select string_agg(distinct format('old.%1$I::text collate "C" is distinct from new.%1$I::text collate "C"', a.attname),
    ' or ')
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
comment on function embedd.content_changed(regclass, text[]) is
  'SQL condition for the WHEN of a trigger: the UPDATE changed the text. Names are quoted.';
