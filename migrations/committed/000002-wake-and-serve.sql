--! Previous: sha1:1a886f133aba7ed5f1483b6f89f6ba969f73d56a
--! Hash: sha1:5ff894e17ce8ecbd37f94ac8372992abfd408ae5
--! Message: wake and serve

set local search_path = pg_catalog, pg_temp;

-- Locks. Any role that can connect can take any advisory lock and hold it for as long as it likes, so nothing waits for
-- one. Whoever needs a turn locks a row of embedd.locks, which takes a privilege. Three things must last as long as a
-- session and therefore are advisory locks: the gate, a worker's presence, and a job (an index build, a model switch).
--   gate      a stranger who holds it costs latency: writers notify, or the worker sweeps more often (see wake-loop.ts)
--   presence  a worker takes another id if a stranger holds the lock of the first; only locks of workers' roles count
--   job       the lock's number is random, and embedd.locks has it; only locks of workers' roles count
-- The first half of an advisory lock is its class, the bytes of four letters; the second half is the id of a pipeline
-- or a worker, or a job's random number.
create function embedd.lock_class(name text) returns integer
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp as $$
  select case name
    when 'gate' then 1701667431 /* 'embg' */
    when 'presence' then 1701667440 /* 'embp' */
    when 'index' then 1701667433 /* 'embi' */
    when 'switch' then 1701667448 /* 'embx' */
  end
$$;
comment on function embedd.lock_class(text) is 'The class of an advisory lock, by name.';

create function embedd.may_work(role oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select coalesce(has_table_privilege(role, 'embedd.locks', 'INSERT'), false)
    or exists (
      select from pg_roles r
      where pg_has_role(role, r.oid, 'MEMBER') and has_table_privilege(r.oid, 'embedd.locks', 'INSERT'))
$$;
comment on function embedd.may_work(oid) is 'Whether the role owns the schema, runs workers, or can become such a role.';

-- A prepared transaction has no process, and its locks belong to the role that prepared it.
create view embedd.advisory_locks as
  select
    c.name as class,
    l.objid::bigint as id,
    l.mode,
    l.granted,
    l.pid,
    coalesce(a.usesysid, r.oid) as role
  from pg_locks l
  join unnest(array['gate', 'presence', 'index', 'switch']) as c (name)
    on l.classid = embedd.lock_class(c.name)::oid
  left join pg_stat_activity a on a.pid = l.pid
  left join pg_prepared_xacts x on l.pid is null and l.virtualtransaction = '-1/' || x.transaction::text
  left join pg_roles r on r.rolname = x.owner
  where l.locktype = 'advisory'
    and l.objsubid = 2
    and l.database = (select oid from pg_database where datname = current_database());
comment on view embedd.advisory_locks is 'The advisory locks of embedd''s classes, and who holds them or waits for them.';

create unlogged table embedd.locks (
  pipeline_id integer not null,
  name text not null,
  job integer,
  primary key (pipeline_id, name)
) with (fillfactor = 50);
comment on table embedd.locks is 'Rows to lock: claim, index and switch of each pipeline, and usage of pipeline 0.';
comment on column embedd.locks.job is 'The number of the advisory lock that the session with the job holds, or last held.';

create function embedd.take_turn(pipeline_id integer, name text) returns void
language plpgsql
set lock_timeout = '5s'
set search_path = pg_catalog, pg_temp as $$
begin
  perform from embedd.locks l
  where l.pipeline_id = take_turn.pipeline_id and l.name = take_turn.name
  for no key update;
  if found then
    return;
  end if;
  insert into embedd.locks
  values (take_turn.pipeline_id, take_turn.name)
  on conflict do nothing;
  perform from embedd.locks l
  where l.pipeline_id = take_turn.pipeline_id and l.name = take_turn.name
  for no key update;
end $$;
comment on function embedd.take_turn is 'Holds a row of embedd.locks until the transaction ends.';

create function embedd.check_same_table(relation_name text, relation oid, owner oid) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (
    select from pg_class c
    where c.oid = to_regclass(relation_name) and c.oid = check_same_table.relation and c.relowner = check_same_table.owner) then
    raise undefined_table using message = format('%s is no longer the table that it was', relation_name);
  end if;
end $$;
comment on function embedd.check_same_table is
  'Raises undefined_table if the name means another table now, or the table has another owner, whose code a query would run.';

create function embedd.job_holder(pipeline_id integer, name text) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  -- A standby has no unlogged tables and does not see the primary's sessions.
  if pg_is_in_recovery() then
    return null;
  end if;
  return (
    select l.pid
    from embedd.locks k
    join embedd.advisory_locks l on l.class = k.name and l.id = k.job
    where k.pipeline_id = job_holder.pipeline_id
      and k.name = job_holder.name
      and l.granted
      and l.mode = 'ExclusiveLock'
      and embedd.may_work(l.role)
    limit 1);
end $$;
comment on function embedd.job_holder is 'The process that builds a pipeline''s index, or switches its model; NULL: none.';

create function embedd.take_job(pipeline_id integer, name text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  number integer;
begin
  -- Locks cannot tell the users of one session apart.
  if current_setting('embedd.single_session', true) = 'on' then
    return true;
  end if;
  perform embedd.take_turn(pipeline_id, name);
  if embedd.job_holder(pipeline_id, name) is not null then
    return false;
  end if;
  loop
    number := (1 + random() * 2147483646)::integer;
    exit when pg_try_advisory_lock(embedd.lock_class(name), number);
  end loop;
  update embedd.locks l
  set job = number
  where l.pipeline_id = take_job.pipeline_id and l.name = take_job.name;
  return true;
end $$;
comment on function embedd.take_job is 'Gives the session a job (index or switch) until it ends, unless another session has it.';

create function embedd.end_job(pipeline_id integer, name text) returns void
language sql
set search_path = pg_catalog, pg_temp as $$
  select pg_advisory_unlock(embedd.lock_class(k.name), k.job)
  from embedd.locks k
  where k.pipeline_id = end_job.pipeline_id
    and k.name = end_job.name
    and embedd.job_holder(k.pipeline_id, k.name) = pg_backend_pid()
$$;
comment on function embedd.end_job is 'Ends a job of this session.';

-- A foreign key would make a deleted pipeline wait for claims. A job that is still held keeps its row, so that it can
-- be ended; the next deletion removes that one.
create function embedd.tg_pipelines__after_delete() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  delete from embedd.locks l
  using (
    select k.pipeline_id, k.name
    from embedd.locks k
    where k.pipeline_id <> 0
      and not exists (select from embedd.pipelines p where p.id = k.pipeline_id)
      and (k.job is null or embedd.job_holder(k.pipeline_id, k.name) is null)
    for update of k skip locked) as gone
  where l.pipeline_id = gone.pipeline_id and l.name = gone.name;
  return null;
end $$;
comment on function embedd.tg_pipelines__after_delete is 'Removes the rows of embedd.locks whose pipeline is gone.';
create trigger pipelines__after_delete
after delete on embedd.pipelines for each statement execute function embedd.tg_pipelines__after_delete();

-- Waking. A sleeping worker holds the gate of each of its pipelines; a worker that is awake leaves it free. A writer
-- takes the gate in shared mode until its transaction ends. If it gets the gate, it need not notify: a worker must
-- take the gate exclusively before it sleeps, so it sweeps once more after the writer's transaction. Only a writer
-- that does not get the gate notifies, because NOTIFY locks the whole database at commit.
-- The class of the gate is a literal here: a function call would cost every writer.
--
-- A full queue of notifications fails a writer at COMMIT, which no trigger can catch. A session that listens and stays in
-- a transaction fills it, also one of another database. So embedd stops notifying long before, and polls find the rows.
create function embedd.notify_limit() returns float8
language sql immutable
set search_path = pg_catalog, pg_temp as $$
  select 0.5::float8
$$;
comment on function embedd.notify_limit() is
  'How full the server''s queue of notifications may be, from 0 to 1, for embedd to notify.';

create function embedd.notify(payload text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  if pg_catalog.pg_notification_queue_usage() >= embedd.notify_limit() then
    return false;
  end if;
  perform pg_catalog.pg_notify('embedd', payload);
  return true;
end $$;
comment on function embedd.notify(text) is
  'Notifies workers, unless the server''s queue of notifications is filling up. Returns whether it did.';

-- Only the server's log names the session that holds the queue: the oldest that listens and is in a transaction. No
-- catalog says who listens, so this is the oldest transaction.
create function embedd.notification_queue(
  out usage float8,
  out pid integer,
  out role text,
  out database text,
  out since timestamptz)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select pg_notification_queue_usage(), a.pid, a.usename::text, a.datname::text, a.xact_start
  from (select) as one
  left join lateral (
    select * from pg_stat_activity s
    where s.backend_type = 'client backend' and s.xact_start is not null and s.pid <> pg_backend_pid()
    order by s.xact_start
    limit 1) as a on true
$$;
comment on function embedd.notification_queue() is
  'How full the server''s queue of notifications is, from 0 to 1, and the session with the oldest transaction, which probably '
  'holds it; NULL without the right to see it.';

-- The trigger runs as embedd's owner, because a writer may lack rights in this schema. It does nothing for the writer.
--
-- embedd.single_session = on: all connections share one session, so locks say nothing (embedded mode).
-- embedd.wake = off: for transactions that will be PREPAREd and therefore must not notify; the worker's poll finds
-- their rows.
create function embedd.tg_wake__after_write() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if pg_catalog.current_setting('embedd.wake', true) = 'off' then
    return null;
  end if;
  if pg_catalog.current_setting('embedd.single_session', true) = 'on'
     or not pg_catalog.pg_try_advisory_xact_lock_shared(1701667431 /* 'embg' */, tg_argv[0]::integer) then
    perform embedd.notify(tg_argv[0]);
  end if;
  return null;
-- A writer must not fail because the server has no room for another lock: the worker's poll finds the row.
exception when others then
  return null;
end $$;
comment on function embedd.tg_wake__after_write() is
  'Wakes the sleeping workers of the pipeline in its argument. Reads and writes no table.';

create function embedd.tg_pipelines__after_write() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  perform embedd.notify('pipelines');
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

-- A row counts while the worker's session holds the presence lock of its id.
create unlogged table embedd.heartbeats (
  worker integer primary key,
  seen_at timestamptz not null default now() check (seen_at between '1970-01-01' and '9999-12-31'),
  heard_at timestamptz not null default now() check (heard_at between '1970-01-01' and '9999-12-31'),
  serves integer[] not null default '{}'
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
comment on table embedd.heartbeats is 'One row per worker, written every few seconds.';
comment on column embedd.heartbeats.heard_at is 'When a notification last reached the worker, at least one of its own.';
comment on column embedd.heartbeats.serves is 'The pipelines that it serves.';

-- In a function, because a standby refuses even to plan a statement with an unlogged table.
create function embedd.read_heartbeats() returns setof embedd.heartbeats
language plpgsql stable
security definer
rows 10
set search_path = pg_catalog, pg_temp as $$
begin
  if not pg_is_in_recovery() then
    return query select * from embedd.heartbeats;
  end if;
end $$;
comment on function embedd.read_heartbeats() is
  'The heartbeats of all workers; none on a standby, which does not see the primary''s sessions. Runs as embedd''s owner, so '
  'that whoever may read embedd.workers needs no right on the table.';

create view embedd.workers as
  select distinct
    h.worker as id,
    a.application_name,
    a.client_addr,
    a.backend_start as connected_at,
    case when h.seen_at > clock_timestamp() - interval '15 s' then 'live' else 'frozen' end as state,
    h.seen_at,
    h.heard_at,
    l.pid
  from embedd.read_heartbeats() h
  join embedd.advisory_locks l on l.class = 'presence' and l.id = h.worker
  left join pg_stat_activity a on a.pid = l.pid
  where l.granted
    and l.mode = 'ExclusiveLock'
    and (current_setting('embedd.single_session', true) = 'on' or embedd.may_work(l.role));
comment on view embedd.workers is
  'The connected workers. state: live, or frozen if the worker has said nothing for 15 s, such as a stopped process.';
comment on column embedd.workers.seen_at is 'When the worker last said that it is alive.';
comment on column embedd.workers.heard_at is 'When a notification last reached the worker. It sends itself one every 15 s.';
comment on column embedd.workers.pid is 'The server process of the connection that proves its presence.';

create function embedd.beat(worker integer, heard_ms_ago float8) returns void
language sql
set search_path = pg_catalog, pg_temp as $$
  insert into embedd.heartbeats as h (worker, heard_at)
  values (worker, now() - heard_ms_ago * interval '1 ms')
  on conflict (worker) do update set seen_at = now(), heard_at = excluded.heard_at
$$;
comment on function embedd.beat is 'Says that a worker is alive, and when a notification last reached it.';

create function embedd.announce_worker() returns integer
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  id integer := nextval('embedd.worker_ids');
begin
  -- A stranger may hold the lock, and after two billion starts the sequence starts over.
  while not pg_try_advisory_lock(embedd.lock_class('presence'), id) loop
    id := (1 + random() * 2147483646)::integer;
  end loop;
  delete from embedd.heartbeats h
  where h.worker in (
    select dead.worker
    from embedd.heartbeats dead
    where not exists (select from embedd.workers w where w.id = dead.worker)
    for update skip locked);
  insert into embedd.heartbeats (worker)
  values (id)
  on conflict (worker) do update set seen_at = now(), heard_at = now(), serves = '{}';
  return id;
end $$;
comment on function embedd.announce_worker() is 'Takes a new worker id and its presence lock, until the session ends.';

-- A frozen worker still serves: its vectors must not meet another model's when it thaws. The view takes longer to plan
-- than to read, and PL/pgSQL keeps the plan.
create function embedd.is_served(pipeline_id integer, by_others boolean default false) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  return exists (
    select from embedd.read_heartbeats() h
    join embedd.workers w on w.id = h.worker
    where pipeline_id = any (h.serves)
      and not (by_others and w.pid = pg_backend_pid()));
end $$;
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
set lock_timeout = '2s'
set search_path = pg_catalog, pg_temp as $$
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
  insert into embedd.heartbeats as h (worker, serves)
  values (serve.worker, array[pipeline_id])
  on conflict on constraint heartbeats_pkey do update
    set serves = h.serves || pipeline_id
    where not pipeline_id = any (h.serves);
  update embedd.pipelines p
  set
    served_model = serve.model,
    served_by = serve.worker,
    former_models = case when p.served_model <> serve.model and p.served_model <> all (p.former_models)
      then p.former_models || p.served_model else p.former_models end
  where p.id = pipeline_id
    and (p.served_model is distinct from serve.model
      or (p.served_by is distinct from serve.worker
        and not exists (select from embedd.workers w where w.id = p.served_by)));
end $$;
comment on function embedd.serve is
  'Lets the session serve a pipeline, unless workers with another model already serve it and no model is set. '
  'If refused, says which model and worker serve it. Call it in the session that holds the worker''s presence lock.';

create function embedd.unserve(pipeline_id integer, worker integer) returns void
language sql
set search_path = pg_catalog, pg_temp as $$
  update embedd.heartbeats h
  set serves = array_remove(h.serves, pipeline_id)
  where h.worker = unserve.worker
$$;
comment on function embedd.unserve is 'Ends what embedd.serve began.';

-- Writers hold the gate in shared mode. A role that may not write to the table has no reason to.
create view embedd.foreign_locks as
  select l.class, l.id, l.mode, l.pid, coalesce(r.rolname, l.role::text) as role
  from embedd.advisory_locks l
  left join pg_roles r on r.oid = l.role
  where l.granted
    and l.role is not null
    and current_setting('embedd.single_session', true) is distinct from 'on'
    and not embedd.may_work(l.role)
    and (l.class <> 'gate' or l.mode = 'ExclusiveLock' or not exists (
      select from embedd.pipelines p
      join pg_class t on t.oid = p.relation
      join pg_roles w on pg_has_role(l.role, w.oid, 'MEMBER')
      where p.id = l.id
        and (has_any_column_privilege(w.oid, t.oid, 'INSERT') or has_any_column_privilege(w.oid, t.oid, 'UPDATE'))));
comment on view embedd.foreign_locks is
  'Advisory locks of embedd''s classes in the hands of roles that have nothing to do with it. They cost latency only.';
