--! Previous: sha1:de221421a42022149ba147c211af0d804a839326
--! Hash: sha1:716f6b489fa39b670b02537c7aaf52ff95e613bd
--! Message: status

-- Status. embedd.status reads every watched table once; embedd.workers reads none.

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
comment on function embedd.count_rows is
  'Reads the whole table. All counts are NULL if the table no longer has the pipeline''s columns.';

create function embedd.vector_index_state(pipeline embedd.pipelines) returns text
language sql stable as $$
  select case when pipeline.index_method is null then null else coalesce((
    select case when i.indisvalid then 'ready' else 'building' end
    from pg_index i
    join pg_class x on x.oid = i.indexrelid
    where i.indrelid = pipeline.relation and x.relname = embedd.vector_index_name(pipeline.id)), 'queued') end
$$;
comment on function embedd.vector_index_state(embedd.pipelines) is
  'queued (until the backlog is done), building or ready; NULL if the pipeline has no vector index.';

-- A dead row that is stale has a vector, so it is not pending.
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
    p.gap,
    p.refresh_started_at is not null as refreshing,
    case
      when p.refresh_started_at is null then null
      when p.refresh_cursor = '{}' and not exists (select from embedd.refresh_windows w where w.pipeline_id = p.id) then 0
      else greatest(counts.done - p.refreshed, 0)
    end as refresh_left,
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
  'The backlog per pipeline. pending: rows that will get a vector, including rows in flight and rows backing off. '
  'oldest_pending_age: an upper bound, the time since a worker last found no pending row. '
  'blank: rows with NULL or white space, never embedded. stale: rows whose vector is not from current_model. '
  'gap: why the vectors that are there may not belong to their texts. refresh_left: rows that a refresh has yet to reach.';

create function embedd.model_of(
  relation text,
  embedding_column text default 'embedding',
  out model text,
  out dimensions integer)
language plpgsql as $$
declare
  target regclass := embedd.resolve(relation);
begin
  -- Locks the table, so that no switch can rename the column before the transaction ends.
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
  'The current model of an embedding column and its dimensions, both fixed until the transaction ends. '
  'Call it at the start of a search: only query vectors from this model can be compared.';
