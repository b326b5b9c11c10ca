--! Previous: sha1:059c010acc7010664f2ca77f05d5d2d86c3db2a1
--! Hash: sha1:a3578bd90235bb3edc5cc56db8d67b94af1ebe99
--! Message: reembed

-- Embedding stale rows again.

alter table embedd.failures add column stale boolean not null default false;
comment on column embedd.failures.stale is 'The row has a vector, of another model, and failed when it was to be embedded again.';

-- The space of deleted vectors is used again after a vacuum only; without one the files would grow.
alter table embedd.vectors set (autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02);

-- A dead row that is stale has a vector, and is none of those that are pending.
create or replace view embedd.status as
  select p.id as pipeline_id, p.relation::text as relation, p.embedding_column, p.model, p.paused, p.error,
    greatest(counts.pending - failures.dead_pending, 0) as pending,
    case when counts.pending - failures.dead_pending > 0 then now() - coalesce(p.caught_up_at, p.created_at) end as oldest_pending_age,
    coalesce((select sum(cardinality(l.keys)) from embedd.leases l where l.pipeline_id = p.id), 0)::bigint as in_flight,
    failures.failed, failures.dead, counts.done, counts.done_by_model, counts.blank,
    embedd.vector_index_state(p) as vector_index,
    coalesce(p.model, p.served_model) as present_model,
    counts.done - coalesce((counts.done_by_model ->> coalesce(p.model, p.served_model))::bigint,
      case when coalesce(p.model, p.served_model) is null then counts.done else 0 end) as stale,
    p.reembed,
    case when p.wait_until > now() then p.wait_reason end as wait_reason,
    case when p.wait_until > now() then p.wait_until end as wait_until,
    usage.requests_today, usage.tokens_today, usage.usd_today, usage.cut_texts_today
  from embedd.pipelines p
  cross join lateral embedd.count_rows(p) as counts
  cross join lateral (
    select count(*) filter (where not f.dead) as failed, count(*) filter (where f.dead) as dead,
      count(*) filter (where f.dead and not f.stale) as dead_pending
    from embedd.failures f where f.pipeline_id = p.id) as failures
  cross join lateral (
    select coalesce(sum(u.requests), 0)::bigint as requests_today,
      coalesce(sum(u.tokens + u.reserved_tokens), 0)::bigint as tokens_today, coalesce(sum(u.usd), 0) as usd_today,
      coalesce(sum(u.cut_texts), 0)::bigint as cut_texts_today
    from embedd.usage u where u.pipeline_id = p.id and u.day = (now() at time zone 'UTC')::date) as usage;
