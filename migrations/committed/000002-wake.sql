--! Previous: sha1:a95e30cb9acf57b786437035ad0edff20359eaeb
--! Hash: sha1:24584a025427c7b75fe9963d61351ee2ebfdd330
--! Message: wake

-- Waking. A worker that is awake leaves the gate of its pipelines free, one that sleeps holds it. A writer
-- that gets the gate shared, for its own transaction, is certain that a worker will look after it has
-- ended, because no worker goes to sleep before it has had the gate exclusively. Only a writer that does
-- not get it notifies: NOTIFY takes a lock on the whole database at commit.
--
-- embedd.single_session = on: all connections share one session, so locks tell nothing (embedded mode).
-- embedd.wake = off: for transactions that are to be PREPAREd, which may not have notified; the worker's
-- poll finds their rows.
create function embedd.tg_wake__after_write() returns trigger
language plpgsql as $$
begin
  if pg_catalog.current_setting('embedd.wake', true) = 'off' then
    return null;
  end if;
  if pg_catalog.current_setting('embedd.single_session', true) = 'on'
     or not pg_catalog.pg_try_advisory_xact_lock_shared(1701667431 /* 'embg' */, tg_argv[0]::integer) then
    perform pg_catalog.pg_notify('embedd', tg_argv[0]);
  end if;
  return null;
end $$;
comment on function embedd.tg_wake__after_write() is 'Tells a sleeping worker of the pipeline in its argument. Reads and writes no table.';

-- A pipeline was added, changed, paused or removed: workers reload the list.
create function embedd.tg_pipelines__after_write() returns trigger
language plpgsql as $$
begin
  perform pg_catalog.pg_notify('embedd', 'pipelines');
  return null;
end $$;
create trigger pipelines__after_write
  after insert or delete or update of relation, key_columns, content_columns, template, embedding_column, model_column, model, paused
  on embedd.pipelines for each statement execute function embedd.tg_pipelines__after_write();

-- White space is what JavaScript's \s is, so that SQL and the worker agree on what is blank. The first
-- thousand characters decide nearly always, without reading a large text whole.
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
comment on function embedd.pending_predicate(regclass, text[], text) is 'SQL condition of a row that waits for its embedding: no vector, and a text that is not blank. Names are quoted.';

-- Compared as bytes: equality of a type or a collation may hide a change (citext, numeric 1.0 and 1.00),
-- and some types have none (json). A generated column is not yet computed when BEFORE triggers run, so the
-- columns that it is made from stand for it.
create function embedd.content_changed(relation regclass, content_columns text[]) returns text
language sql stable as $$
  select string_agg(distinct format('old.%1$I::text collate "C" is distinct from new.%1$I::text collate "C"', a.attname), ' or ')
  from pg_attribute c
  join pg_attribute a on a.attrelid = relation and (
    (c.attgenerated = '' and a.attnum = c.attnum) or
    (c.attgenerated <> '' and a.attnum in (
      select d.refobjsubid from pg_depend d
      where d.refclassid = 'pg_class'::regclass and d.refobjid = relation and d.refobjsubid > 0
        and ((d.classid = 'pg_class'::regclass and d.objid = relation and d.objsubid = c.attnum)
          or (d.classid = 'pg_attrdef'::regclass and d.objid = (
            select ad.oid from pg_attrdef ad where ad.adrelid = relation and ad.adnum = c.attnum)))
        and d.refobjsubid <> c.attnum)))
  where c.attrelid = relation and c.attname = any (content_columns) and not c.attisdropped
$$;
comment on function embedd.content_changed(regclass, text[]) is 'SQL condition, for a trigger''s WHEN, that an UPDATE changed the text. Names are quoted.';
