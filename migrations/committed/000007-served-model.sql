--! Previous: sha1:bc8c56bda7ad582d6aa7c2d938e3f34a66b2b58e
--! Hash: sha1:063f6f46f08d17bec9589a051f027ea133e39c7a
--! Message: served model

-- Which model serves a pipeline: that of its living workers, where it is pinned to none.

-- Advisory lock class 'embv', held shared by every worker that serves a pipeline.
create function embedd.is_served(pipeline_id integer, by_others boolean default false) returns boolean
language sql as $$
  select exists (
    select from pg_locks l
    where l.locktype = 'advisory' and l.classid = 1701667446 /* 'embv' */ and l.objid = pipeline_id::oid and l.objsubid = 2
      and l.granted and l.database = (select oid from pg_database where datname = current_database())
      and not (by_others and l.pid = pg_backend_pid()))
$$;
comment on function embedd.is_served is 'Whether a worker that is connected serves the pipeline. Tells nothing where all connections share one session.';

-- The row's lock lets one worker decide at a time, so two of different models never both find nobody else.
create function embedd.serve(pipeline_id integer, worker integer, model text, out granted boolean, out by_model text, out by_worker integer)
language plpgsql
set lock_timeout = '2s' as $$
declare
  pipeline embedd.pipelines;
  single constant boolean not null := coalesce(current_setting('embedd.single_session', true), '') = 'on';
begin
  select * into pipeline from embedd.pipelines p where p.id = pipeline_id for no key update;
  by_model := pipeline.served_model;
  by_worker := pipeline.served_by;
  granted := pipeline.id is not null and (pipeline.model is not null or pipeline.served_model is null
    or pipeline.served_model = serve.model or single or not embedd.is_served(pipeline_id, by_others => true));
  if not granted then
    return;
  end if;
  if not single and not exists (
    select from pg_locks l where l.locktype = 'advisory' and l.classid = 1701667446 and l.objid = pipeline_id::oid
      and l.objsubid = 2 and l.granted and l.pid = pg_backend_pid()) then
    perform pg_advisory_lock_shared(1701667446, pipeline_id);
  end if;
  update embedd.pipelines p set served_model = serve.model, served_by = serve.worker
  where p.id = pipeline_id and (p.served_model is distinct from serve.model
    or (p.served_by is distinct from serve.worker and not exists (select from embedd.workers w where w.id = p.served_by)));
end $$;
comment on function embedd.serve is 'Makes the session one of those that serve a pipeline, unless workers of another model do and it is pinned to none; then by whom. In the session that is the worker''s presence.';

create function embedd.unserve(pipeline_id integer) returns void
language sql as $$
  select pg_advisory_unlock_shared(1701667446, pipeline_id)
  from pg_locks l where l.locktype = 'advisory' and l.classid = 1701667446 and l.objid = pipeline_id::oid
    and l.objsubid = 2 and l.granted and l.pid = pg_backend_pid()
    and current_setting('embedd.single_session', true) is distinct from 'on'
$$;

create function embedd.model_of(relation text, embedding_column text default 'embedding', out model text, out dimensions integer)
language plpgsql as $$
declare
  target regclass := embedd.resolve(relation);
begin
  -- Until the transaction ends no switch can give the column's name to another.
  execute format('select from %s limit 0', target);
  select coalesce(p.model, p.served_model), a.atttypmod into model, dimensions
  from embedd.pipelines p
  join pg_attribute a on a.attrelid = p.relation and a.attname = p.embedding_column and not a.attisdropped
  where p.relation = target and p.embedding_column = model_of.embedding_column;
  if not found then
    perform embedd.refuse('not_watched', format('column %I of %s is not watched', embedding_column, target),
      'SELECT relation, embedding_column FROM embedd.pipelines;');
  end if;
end $$;
comment on function embedd.model_of is 'The present model of an embedding column, and its dimension; both stay true until the transaction ends. A search begins with it, and compares its query only if it was made by this model.';
