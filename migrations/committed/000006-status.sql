--! Previous: sha1:71b8eee3785cf9ea4ac46a6f6106186e103e2083
--! Hash: sha1:9468acad40c79dc209f415b3b3c7c2cda320cb51
--! Message: status

set local search_path = pg_catalog, pg_temp;

-- Status. embedd.status reads every watched table once; embedd.workers reads none.

create function embedd.count_pending(pipeline embedd.pipelines) returns bigint
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set search_path = pg_catalog, pg_temp as $$
declare
  counted bigint;
begin
  perform embedd.refuse_code_risk(pipeline.relation);
  execute format('select count(*) from %s where %s',
    pipeline.relation,
    embedd.pending_predicate(pipeline.relation, pipeline.content_columns, pipeline.embedding_column))
  into counted;
  return counted;
end $$;
comment on function embedd.count_pending(embedd.pipelines) is
  'Counts pending rows in their index, which reads no text.';

create function embedd.may_count(pipeline embedd.pipelines) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select (select r.what from embedd.code_risk(pipeline.relation) r) is null
    and coalesce(pipeline.id = any (embedd.scoped_pipelines()), true)
    and (embedd.may_serve() or exists (
      select from pg_class c
      where c.oid = pipeline.relation
        and (embedd.is_trusted(c.relowner, current_user) or pg_has_role(current_user, c.relowner, 'MEMBER'))))
    and (has_table_privilege('embedd.leases', 'INSERT') or coalesce((
    select has_schema_privilege(c.relnamespace, 'USAGE') and bool_and(has_column_privilege(c.oid, a.attnum, 'SELECT'))
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and not a.attisdropped
      and a.attname = any (pipeline.content_columns || pipeline.embedding_column || pipeline.model_column)
    where c.oid = pipeline.relation
    group by c.oid, c.relnamespace), true))
$$;
comment on function embedd.may_count(embedd.pipelines) is
  'Whether the current role is expected to count the rows of a pipeline: a worker, or a role that may read the table. Not if '
  'the table''s owner would gain rights by that: embedd.status reads tables that nobody named.';

create function embedd.count_rows(
  pipeline embedd.pipelines,
  out pending bigint,
  out done bigint,
  out blank bigint,
  out done_by_model jsonb,
  out problem text)
language plpgsql stable
set lock_timeout = '1s'
set search_path = pg_catalog, pg_temp as $$
declare
  context text;
  raised_in text;
  statement constant text := $sql$
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
    $sql$;
begin
  if not embedd.pipeline_is_whole(pipeline) then
    -- Columns that were only renamed are no problem: the next worker or command follows them.
    problem := coalesce(
      embedd.table_problem(pipeline),
      case when embedd.column_names(pipeline.relation,
          pipeline.key_attnums || pipeline.content_attnums || pipeline.embedding_attnum || pipeline.model_attnum) is null
        then embedd.missing_columns(pipeline) end);
    return;
  end if;
  if not embedd.may_count(pipeline) then
    return;
  end if;
  problem := embedd.hidden_rows(pipeline.relation);
  if problem is not null then
    return;
  end if;
  begin
    execute format(statement, pipeline.model_column, pipeline.embedding_column,
      embedd.pending_predicate(pipeline.relation, pipeline.content_columns, pipeline.embedding_column), pipeline.relation)
    into pending, done, blank, done_by_model;
  exception when data_exception or program_limit_exceeded or internal_error then
    -- A text cannot be read, so count without reading texts.
    execute format(statement, pipeline.model_column, pipeline.embedding_column, 'false', pipeline.relation)
    into pending, done, blank, done_by_model;
    pending := embedd.count_pending(pipeline);
    blank := blank - pending;
  end;
  pending := coalesce(pending, 0);
  done := coalesce(done, 0);
  blank := coalesce(blank, 0);
  done_by_model := coalesce(done_by_model, '{}');
  problem := coalesce(embedd.table_problem(pipeline), embedd.shape_problem(pipeline));
exception when others then
  -- No table may break the status of the others. The server's message may quote a row, so it is not repeated.
  get stacked diagnostics context = pg_exception_context;
  raised_in := substring(context from 'PL/pgSQL function ([^\s()]+\([^()]*\))');
  pending := null;
  done := null;
  blank := null;
  done_by_model := null;
  problem := 'counts unavailable: ' || case
    when sqlstate = '55P03' then 'another transaction holds its table locked'
    when sqlstate in ('42P01', '42703') then 'its table or a column was dropped meanwhile'
    when sqlstate = '42501' then format('role %I may not read its columns, or a policy refuses it', current_user)
    else format('reading its table failed with SQLSTATE %s', sqlstate)
      || case when raised_in like 'embedd.count\_%' then '' else coalesce(' in ' || raised_in, '') end
  end;
end $$;
comment on function embedd.count_rows is
  'Reads the whole table. All counts are NULL if the table no longer has the pipeline''s columns, or cannot be read within '
  'a second of waiting for its lock; problem says why. It never raises. Without embedd.may_count all are NULL, problem too.';

-- Where all connections share one session, nobody is seen building.
create function embedd.builds_index(pipeline_id integer) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select embedd.job_holder(pipeline_id, 'index') is not null
$$;
comment on function embedd.builds_index(integer) is 'Whether a session is building the vector index of a pipeline.';

create function embedd.vector_index_state(pipeline embedd.pipelines) returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select case when pipeline.index_method is null then null else coalesce((
    select case when i.indisvalid then 'ready' when embedd.builds_index(pipeline.id) then 'building' else 'failed' end
    from pg_index i
    join pg_class x on x.oid = i.indexrelid
    where i.indrelid = pipeline.relation and x.relname = embedd.vector_index_name(pipeline.id)), 'queued') end
$$;
comment on function embedd.vector_index_state(embedd.pipelines) is
  'queued (until the backlog is done), building, ready, or failed: an earlier build left an invalid index, which slows '
  'writers, and no session is building it. NULL if the pipeline has no vector index.';

-- A dead row that is stale has a vector, so it is not pending.
create view embedd.status as
  select
    p.id as pipeline_id,
    embedd.relation_text(p) as relation,
    p.embedding_column,
    p.model,
    p.paused,
    coalesce(p.error, counts.problem, embedd.repairable_problem(p, coalesce(found.gap, p.gap))) as error,
    case when counts.pending is not null then greatest(counts.pending - failures.dead_pending, 0) end as pending,
    case when counts.pending - failures.dead_pending > 0 then now() - coalesce(p.caught_up_at, p.created_at) end
      as oldest_pending_age,
    case when not pg_is_in_recovery() then coalesce((
      select sum(cardinality(l.keys))
      from embedd.leases l
      where l.pipeline_id = p.id and l.expires_at > now() and l.worker in (select w.id from embedd.workers w)
    ), 0)::bigint end as in_flight,
    failures.failed,
    failures.dead,
    counts.done,
    counts.done_by_model,
    counts.blank + failures.white_space as blank,
    embedd.vector_index_state(p) as vector_index,
    coalesce(p.model, p.served_model) as current_model,
    counts.done - coalesce(
      (counts.done_by_model ->> coalesce(p.model, p.served_model))::bigint,
      case when coalesce(p.model, p.served_model) is null then counts.done else 0 end) as stale,
    p.reembed,
    coalesce(p.gap, found.gap) as gap,
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
    usage.texts_today,
    usage.cut_texts_today,
    embedd.may_count(p) as may_count
  from embedd.pipelines p
  cross join lateral embedd.count_rows(p) as counts
  -- OFFSET keeps it from being called for each use.
  cross join lateral (select embedd.find_gap(p) as gap offset 0) as found
  cross join lateral (
    select
      count(*) filter (where not f.dead) as failed,
      count(*) filter (where f.dead and f.code <> 'white_space') as dead,
      count(*) filter (where f.dead and not f.stale) as dead_pending,
      count(*) filter (where f.code = 'white_space') as white_space
    from embedd.failures f
    where f.pipeline_id = p.id) as failures
  cross join lateral (
    select
      least(coalesce(sum(u.requests), 0), 9e15)::bigint as requests_today,
      least(coalesce(sum(u.tokens + u.reserved_tokens), 0), 9e15)::bigint as tokens_today,
      coalesce(sum(u.usd), 0) as usd_today,
      least(coalesce(sum(u.texts), 0), 9e15)::bigint as texts_today,
      least(coalesce(sum(u.cut_texts), 0), 9e15)::bigint as cut_texts_today
    from embedd.usage u
    where u.pipeline_id = p.id and u.day = (now() at time zone 'UTC')::date) as usage;
comment on view embedd.status is
  'The backlog per pipeline. pending: rows that will get a vector, including rows in flight and rows backing off. '
  'oldest_pending_age: an upper bound, the time since a worker last found no pending row. '
  'in_flight: rows that connected workers have claimed; NULL on a standby, which does not see them. '
  'error: why no worker can serve the pipeline, why its rows could not be counted, or what to repair. '
  'blank: rows with NULL or white space, never embedded. stale: rows whose vector is not from current_model. '
  'gap: why the vectors that are there may not belong to their texts. refresh_left: rows that a refresh has yet to reach. '
  'may_count: false if the current role has no rights to count the rows; the counts are NULL then, and nothing is wrong.';

create function embedd.model_of(
  relation text,
  embedding_column text default 'embedding',
  path text default embedd.caller_path(),
  out model text,
  out dimensions integer)
language plpgsql
set search_path = pg_catalog, pg_temp as $$
declare
  target regclass := embedd.resolve(relation, true, path);
begin
  -- Locks the table, so that no switch can rename the column before the transaction ends. To plan a query may run code of
  -- the table's owner, but LOCK needs more than the right to read some columns.
  execute format(case when has_table_privilege(target, 'SELECT') then 'lock table only %s in access share mode'
    else 'select from %s limit 0' end, target);
  select coalesce(p.model, p.served_model), a.atttypmod into model, dimensions
  from embedd.pipelines p
  join pg_attribute a on a.attrelid = p.relation and a.attname = p.embedding_column and not a.attisdropped
  where p.relation = target and p.embedding_column = model_of.embedding_column;
  if not found then
    perform embedd.refuse_unwatched(target, embedding_column);
  end if;
end $$;
comment on function embedd.model_of is
  'The current model of an embedding column and its dimensions, both fixed until the transaction ends. '
  'Call it at the start of a search: only query vectors from this model can be compared.';
