--! Previous: sha1:55ee7f9b8b72bebefd75406cf82d79ae5f4c470e
--! Hash: sha1:bc8c56bda7ad582d6aa7c2d938e3f34a66b2b58e
--! Message: models

-- What is known of models: which one serves a pipeline, what its provider spent, what it computed before.

alter table embedd.pipelines
  add column served_model text,
  add column served_by integer,
  add column wait_reason text,
  add column wait_until timestamptz,
  add column reembed boolean not null default false;
comment on column embedd.pipelines.served_model is 'The model of the worker that serves it, or did last. Rows of any other are stale.';
comment on column embedd.pipelines.served_by is 'The id of a worker that serves it, or did last.';
comment on column embedd.pipelines.wait_reason is 'What its worker waits for, such as a quota, while nothing is wrong with the pipeline; NULL: nothing.';
comment on column embedd.pipelines.wait_until is 'When its worker goes on.';
comment on column embedd.pipelines.reembed is 'Stale rows are embedded again, after all others.';

alter table embedd.failures add column stale boolean not null default false;
comment on column embedd.failures.stale is 'The row has a vector, of another model, and failed when it was to be embedded again.';

drop trigger pipelines__after_write on embedd.pipelines;
create trigger pipelines__after_write
  after insert or delete or update of relation, key_columns, content_columns, template, embedding_column, model_column, model, paused, reembed
  on embedd.pipelines for each statement execute function embedd.tg_pipelines__after_write();

-- No reference to pipelines: what was spent stays spent when a table is left.
create table embedd.usage (
  pipeline_id integer not null,
  day date not null,
  model text not null,
  requests bigint not null default 0,
  tokens bigint not null default 0,
  cut_texts bigint not null default 0,
  reserved_tokens bigint not null default 0,
  usd numeric not null default 0,
  primary key (day, pipeline_id, model)
);
comment on table embedd.usage is 'What an API provider was asked for, by pipeline and day (UTC). usd is an estimate by the model''s list price.';
comment on column embedd.usage.cut_texts is 'Texts of which the model reads only the beginning.';
comment on column embedd.usage.reserved_tokens is 'Of requests in flight. What a worker that died had reserved counts as spent.';

-- No text, only its hash. Unlogged: after a crash of the server it is empty, and vectors are computed again.
do $$
declare
  vector_type text;
begin
  select format('%I.vector', n.nspname) into strict vector_type
  from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector';
  execute format($sql$
    create unlogged table embedd.vectors (
      text_hash bytea not null,
      model text not null,
      dimensions integer not null,
      embedding %s not null,
      used_at timestamptz not null default now(),
      primary key (text_hash, model, dimensions)
    )$sql$, vector_type);
end $$;
create index on embedd.vectors (used_at);
-- The space of deleted vectors is used again after a vacuum only; without one the files would grow.
alter table embedd.vectors set (autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02);
comment on table embedd.vectors is 'Vectors of texts that were embedded before, for rows with the same text and model.';
comment on column embedd.vectors.text_hash is 'SHA-256 of the text as the model was given it.';

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
comment on view embedd.status is 'The backlog by pipeline. pending: rows that will get a vector, in flight or waiting for a retry included. oldest_pending_age: at most this, the time since a worker last had nothing to do. blank: NULL or white space, never embedded. stale: rows whose vector is of another model than present_model.';

create or replace function embedd.grant_worker(role text) returns void
language plpgsql as $$
declare
  target regrole := to_regrole(quote_ident(role));
begin
  if target is null then
    perform embedd.refuse('no_such_role', format('there is no role %I', role), format('CREATE ROLE %I LOGIN;', role));
  end if;
  execute format('grant usage on schema embedd to %s', target);
  execute format('grant select on embedd.pipelines, embedd.grants, embedd.status, embedd.workers to %s', target);
  execute format('grant update (error, caught_up_at, served_model, served_by, wait_reason, wait_until, reembed) on embedd.pipelines to %s', target);
  execute format('grant select, insert, update, delete on embedd.leases, embedd.failures, embedd.usage, embedd.vectors to %s', target);
  execute format('grant usage on sequence embedd.worker_ids to %s', target);
  perform embedd.grant_pipeline(p, target) from embedd.pipelines p where embedd.pipeline_is_whole(p);
end $$;
select embedd.grant_worker(r.rolname) from embedd.worker_roles() as role join pg_roles r on r.oid = role;
