--! Previous: sha1:de23824a1d6dcd155144983299340c81a14dc5b3
--! Hash: sha1:9d30c362ebfc2b1fb8ada4612ec2e7845dae4d37
--! Message: status

-- Status. Counting reads each watched table once; who only wants to know that a worker lives reads
-- embedd.workers.

create view embedd.workers as
  select distinct l.objid::integer as id, a.application_name, a.client_addr, a.backend_start as connected_at
  from pg_locks l left join pg_stat_activity a on a.pid = l.pid
  where l.locktype = 'advisory' and l.classid = 1701667440 /* 'embp' */ and l.objsubid = 2 and l.granted
    and l.mode = 'ExclusiveLock' and l.database = (select oid from pg_database where datname = current_database());
comment on view embedd.workers is 'The workers that are connected now: each holds an advisory lock on its id.';

create function embedd.pipeline_is_whole(pipeline embedd.pipelines) returns boolean
language sql stable as $$
  select exists (select from pg_class where oid = pipeline.relation)
    and not exists (
      select from unnest(pipeline.key_columns || pipeline.content_columns || array[pipeline.embedding_column, pipeline.model_column]) as needed (name)
      where not exists (select from pg_attribute a
        where a.attrelid = pipeline.relation and a.attname = needed.name and a.attnum > 0 and not a.attisdropped))
$$;
comment on function embedd.pipeline_is_whole(embedd.pipelines) is 'Whether the table and all columns of a pipeline still exist under their names.';

create function embedd.count_rows(pipeline embedd.pipelines, out pending bigint, out done bigint, out blank bigint, out done_by_model jsonb)
language plpgsql stable as $$
begin
  if not embedd.pipeline_is_whole(pipeline) then
    return;
  end if;
  execute format($sql$
    select sum(n) filter (where waits), sum(n) filter (where embedded), sum(n) filter (where not embedded and not waits),
      jsonb_object_agg(coalesce(model, ''), n) filter (where embedded)
    from (
      select %1$I as model, %2$I is not null as embedded, (%3$s) is true as waits, count(*) as n from %4$s group by 1, 2, 3
    ) as counts (model, embedded, waits, n)
    $sql$, pipeline.model_column, pipeline.embedding_column,
    embedd.pending_predicate(pipeline.relation, pipeline.content_columns, pipeline.embedding_column), pipeline.relation)
  into pending, done, blank, done_by_model;
  pending := coalesce(pending, 0);
  done := coalesce(done, 0);
  blank := coalesce(blank, 0);
  done_by_model := coalesce(done_by_model, '{}');
end $$;

create function embedd.vector_index_state(pipeline embedd.pipelines) returns text
language sql stable as $$
  select case when pipeline.index_method is null then null else coalesce((
    select case when i.indisvalid then 'ready' else 'building' end
    from pg_index i join pg_class x on x.oid = i.indexrelid
    where i.indrelid = pipeline.relation and x.relname = embedd.vector_index_name(pipeline.id)), 'waiting') end
$$;
comment on function embedd.vector_index_state(embedd.pipelines) is 'waiting for the backlog, building, or ready; NULL where no index is asked for.';

create view embedd.status as
  select p.id as pipeline_id, p.relation::text as relation, p.embedding_column, p.model, p.paused, p.error,
    greatest(counts.pending - failures.dead, 0) as pending,
    case when counts.pending - failures.dead > 0 then now() - coalesce(p.caught_up_at, p.created_at) end as oldest_pending_age,
    coalesce((select sum(cardinality(l.keys)) from embedd.leases l where l.pipeline_id = p.id), 0)::bigint as in_flight,
    failures.failed, failures.dead, counts.done, counts.done_by_model, counts.blank,
    embedd.vector_index_state(p) as vector_index
  from embedd.pipelines p
  cross join lateral embedd.count_rows(p) as counts
  cross join lateral (
    select count(*) filter (where not f.dead) as failed, count(*) filter (where f.dead) as dead
    from embedd.failures f where f.pipeline_id = p.id) as failures;
comment on view embedd.status is 'The backlog by pipeline. pending: rows that will get a vector, in flight or waiting for a retry included. oldest_pending_age: at most this, the time since a worker last had nothing to do. blank: NULL or white space, never embedded.';
