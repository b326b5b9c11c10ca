--! Previous: sha1:745fa07742b81ec36a543520047960ef4c275a4b
--! Hash: sha1:3e72b15382edc9dc5df87fa7c416abd6410edf3b
--! Message: status

-- Status. Counting reads each watched table once; who only wants to know that a worker lives reads
-- embedd.workers.

create function embedd.count_rows(
  pipeline embedd.pipelines,
  out pending bigint,
  out done bigint,
  out blank bigint,
  out done_by_model jsonb)
language plpgsql stable as $$
begin
  if not embedd.pipeline_is_whole(pipeline) then
    return;
  end if;
  execute format($sql$
    select
      sum(n) filter (where pending),
      sum(n) filter (where embedded),
      sum(n) filter (where not embedded and not pending),
      jsonb_object_agg(coalesce(model, ''), n) filter (where embedded)
    from (
      select %1$I as model, %2$I is not null as embedded, (%3$s) is true as pending, count(*) as n
      from %4$s
      group by 1, 2, 3
    ) as counts (model, embedded, pending, n)
    $sql$,
    pipeline.model_column,
    pipeline.embedding_column,
    embedd.pending_predicate(pipeline.relation, pipeline.content_columns, pipeline.embedding_column),
    pipeline.relation)
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
    from pg_index i
    join pg_class x on x.oid = i.indexrelid
    where i.indrelid = pipeline.relation and x.relname = embedd.vector_index_name(pipeline.id)), 'queued') end
$$;
comment on function embedd.vector_index_state(embedd.pipelines) is
  'queued (until the backlog is done), building, or ready; NULL where no index is asked for.';

-- A dead row that is stale has a vector, and is none of those that are pending.
create view embedd.status as
  select
    p.id as pipeline_id,
    p.relation::text as relation,
    p.embedding_column,
    p.model,
    p.paused,
    p.error,
    greatest(counts.pending - failures.dead_pending, 0) as pending,
    case when counts.pending - failures.dead_pending > 0 then now() - coalesce(p.caught_up_at, p.created_at) end
      as oldest_pending_age,
    coalesce((select sum(cardinality(l.keys)) from embedd.leases l where l.pipeline_id = p.id), 0)::bigint as in_flight,
    failures.failed,
    failures.dead,
    counts.done,
    counts.done_by_model,
    counts.blank,
    embedd.vector_index_state(p) as vector_index,
    coalesce(p.model, p.served_model) as current_model,
    counts.done - coalesce(
      (counts.done_by_model ->> coalesce(p.model, p.served_model))::bigint,
      case when coalesce(p.model, p.served_model) is null then counts.done else 0 end) as stale,
    p.reembed,
    case when p.wait_until > now() then p.wait_reason end as wait_reason,
    case when p.wait_until > now() then p.wait_until end as wait_until,
    usage.requests_today,
    usage.tokens_today,
    usage.usd_today,
    usage.cut_texts_today
  from embedd.pipelines p
  cross join lateral embedd.count_rows(p) as counts
  cross join lateral (
    select
      count(*) filter (where not f.dead) as failed,
      count(*) filter (where f.dead) as dead,
      count(*) filter (where f.dead and not f.stale) as dead_pending
    from embedd.failures f
    where f.pipeline_id = p.id) as failures
  cross join lateral (
    select
      coalesce(sum(u.requests), 0)::bigint as requests_today,
      coalesce(sum(u.tokens + u.reserved_tokens), 0)::bigint as tokens_today,
      coalesce(sum(u.usd), 0) as usd_today,
      coalesce(sum(u.cut_texts), 0)::bigint as cut_texts_today
    from embedd.usage u
    where u.pipeline_id = p.id and u.day = (now() at time zone 'UTC')::date) as usage;
comment on view embedd.status is
  'The backlog by pipeline. pending: rows that will get a vector, in flight or waiting for a retry included. '
  'oldest_pending_age: at most this, the time since a worker last had nothing to do. '
  'blank: NULL or white space, never embedded. stale: rows whose vector is of another model than current_model.';

create function embedd.model_of(
  relation text,
  embedding_column text default 'embedding',
  out model text,
  out dimensions integer)
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
    perform embedd.refuse('not_watched',
      format('column %I of %s is not watched', embedding_column, target),
      'SELECT relation, embedding_column FROM embedd.pipelines;');
  end if;
end $$;
comment on function embedd.model_of is
  'The present model of an embedding column, and its dimension; both stay true until the transaction ends. '
  'A search begins with it, and compares its query only if it was made by this model.';
