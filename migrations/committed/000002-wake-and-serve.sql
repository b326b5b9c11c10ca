--! Previous: sha1:40925a77e8e7935669eb481b5c83e75ae8241200
--! Hash: sha1:d75e1f42ce621c505ac18ec4244c10eb9baca7c3
--! Message: wake and serve

-- The first half of an advisory lock is its class, the bytes of four letters; the second half is the id of a pipeline
-- or a worker. These are the classes that SQL uses; src/database/advisory-locks.ts has the rest.
create function embedd.lock_class(name text) returns integer
language sql immutable parallel safe as $$
  select case name
    when 'gate' then 1701667431 /* 'embg' */
    when 'presence' then 1701667440 /* 'embp' */
    when 'serve' then 1701667446 /* 'embv' */
    when 'index' then 1701667433 /* 'embi' */
  end
$$;
comment on function embedd.lock_class(text) is 'The class of an advisory lock, by name.';

-- Waking. A sleeping worker holds the gate of each of its pipelines; a worker that is awake leaves it free. A writer
-- takes the gate in shared mode until its transaction ends. If it gets the gate, it need not notify: a worker must
-- take the gate exclusively before it sleeps, so it sweeps once more after the writer's transaction. Only a writer
-- that does not get the gate notifies, because NOTIFY locks the whole database at commit.
-- The class of the gate is a literal here: a function call would cost every writer.
--
-- embedd.single_session = on: all connections share one session, so locks say nothing (embedded mode).
-- embedd.wake = off: for transactions that will be PREPAREd and therefore must not notify; the worker's poll finds
-- their rows.
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
-- A writer must not fail because the server has no room for another lock: the worker's poll finds the row.
exception when others then
  return null;
end $$;
comment on function embedd.tg_wake__after_write() is
  'Wakes the sleeping workers of the pipeline in its argument. Reads and writes no table.';

create function embedd.tg_pipelines__after_write() returns trigger
language plpgsql as $$
begin
  perform pg_catalog.pg_notify('embedd', 'pipelines');
  return null;
end $$;
comment on function embedd.tg_pipelines__after_write() is 'Tells workers to reload the list of pipelines.';
create trigger pipelines__after_write
  after insert or delete or update of
    relation, key_columns, content_columns, template, embedding_column, model_column, model, paused, reembed, gap,
    refresh_started_at
  on embedd.pipelines
  for each statement
  execute function embedd.tg_pipelines__after_write();

create view embedd.workers as
  select distinct l.objid::integer as id, a.application_name, a.client_addr, a.backend_start as connected_at
  from pg_locks l
  left join pg_stat_activity a on a.pid = l.pid
  where l.locktype = 'advisory'
    and l.classid = embedd.lock_class('presence')::oid
    and l.objsubid = 2
    and l.granted
    and l.mode = 'ExclusiveLock'
    and l.database = (select oid from pg_database where datname = current_database());
comment on view embedd.workers is 'The connected workers: each holds an advisory lock on its id.';

-- Every worker that serves a pipeline holds the lock of class 'serve' in shared mode.
create function embedd.is_served(pipeline_id integer, by_others boolean default false) returns boolean
language sql as $$
  select exists (
    select from pg_locks l
    where l.locktype = 'advisory'
      and l.classid = embedd.lock_class('serve')::oid
      and l.objid = pipeline_id::oid
      and l.objsubid = 2
      and l.granted
      and l.database = (select oid from pg_database where datname = current_database())
      and not (by_others and l.pid = pg_backend_pid()))
$$;
comment on function embedd.is_served is
  'Whether a connected worker serves the pipeline. Says nothing if all connections share one session.';

-- The lock on the row lets one worker decide at a time, so two models can never both find the pipeline free.
create function embedd.serve(
  pipeline_id integer,
  worker integer,
  model text,
  out granted boolean,
  out by_model text,
  out by_worker integer)
language plpgsql
set lock_timeout = '2s' as $$
declare
  pipeline embedd.pipelines;
  single constant boolean not null := coalesce(current_setting('embedd.single_session', true), '') = 'on';
begin
  select * into pipeline
  from embedd.pipelines p
  where p.id = pipeline_id
  for no key update;
  by_model := pipeline.served_model;
  by_worker := pipeline.served_by;
  granted := pipeline.id is not null and (
    pipeline.model is not null
    or pipeline.served_model is null
    or pipeline.served_model = serve.model
    or single
    or not embedd.is_served(pipeline_id, by_others => true));
  if not granted then
    return;
  end if;
  if not single and not exists (
    select from pg_locks l
    where l.locktype = 'advisory'
      and l.classid = embedd.lock_class('serve')::oid
      and l.objid = pipeline_id::oid
      and l.objsubid = 2
      and l.granted
      and l.pid = pg_backend_pid()) then
    perform pg_advisory_lock_shared(embedd.lock_class('serve'), pipeline_id);
  end if;
  update embedd.pipelines p
  set served_model = serve.model, served_by = serve.worker
  where p.id = pipeline_id
    and (p.served_model is distinct from serve.model
      or (p.served_by is distinct from serve.worker
        and not exists (select from embedd.workers w where w.id = p.served_by)));
end $$;
comment on function embedd.serve is
  'Lets the session serve a pipeline, unless workers with another model already serve it and no model is set. '
  'If refused, says which model and worker serve it. Call it in the session that holds the worker''s presence lock.';

create function embedd.unserve(pipeline_id integer) returns void
language sql as $$
  select pg_advisory_unlock_shared(embedd.lock_class('serve'), pipeline_id)
  from pg_locks l
  where l.locktype = 'advisory'
    and l.classid = embedd.lock_class('serve')::oid
    and l.objid = pipeline_id::oid
    and l.objsubid = 2
    and l.granted
    and l.pid = pg_backend_pid()
    and current_setting('embedd.single_session', true) is distinct from 'on'
$$;
comment on function embedd.unserve(integer) is 'Ends what embedd.serve began in this session.';
