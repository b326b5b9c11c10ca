--! Previous: -
--! Hash: sha1:740229fb7feb9bfd6bc0ff73a699f4c23868c36b
--! Message: tables

-- Tables. State lives here and never in a user's row: a row-level UPDATE of a table with an HNSW index
-- rewrites every index entry, so nothing but the embedding is ever written there.

create extension if not exists vector;

create schema embedd;
comment on schema embedd is 'The embedding daemon: rows that embed themselves.';

-- Every refusal has a literal code (in the error's constraint field), a message and what to type.
create function embedd.refuse(code text, message text, hint text) returns void
language plpgsql as $$
begin
  raise exception using errcode = 'EMBDD', constraint = code, message = message, hint = hint;
end $$;

create table embedd.pipelines (
  id integer generated always as identity primary key,
  relation regclass not null,
  key_columns text[] not null,
  content_columns text[] not null,
  template text,
  embedding_column text not null,
  model_column text not null,
  model text,
  paused boolean not null default false,
  index_method text check (index_method in ('hnsw')),
  error text,
  caught_up_at timestamptz,
  created_at timestamptz not null default now(),
  served_model text,
  served_by integer,
  wait_reason text,
  wait_until timestamptz,
  reembed boolean not null default false,
  shadow_of integer unique references embedd.pipelines,
  model_before text,
  unique (relation, embedding_column)
);
comment on table embedd.pipelines is 'One row a watched embedding column. Written by embedd.watch and embedd.unwatch.';
comment on column embedd.pipelines.content_columns is 'The columns that make the text, in order.';
comment on column embedd.pipelines.template is
  '''{title}\n\n{body}'', rendered by the worker; NULL: the columns one below the other.';
comment on column embedd.pipelines.model is 'Only a worker of this model serves the pipeline; NULL: whichever runs.';
comment on column embedd.pipelines.index_method is
  'The vector index that a worker builds once the backlog is done; NULL: none.';
comment on column embedd.pipelines.error is 'Why no worker can serve it now; NULL: nothing is wrong.';
comment on column embedd.pipelines.caught_up_at is 'When a worker last found nothing left to do.';
comment on column embedd.pipelines.served_model is
  'The model of the worker that serves it, or did last. Rows of any other are stale.';
comment on column embedd.pipelines.served_by is 'The id of a worker that serves it, or did last.';
comment on column embedd.pipelines.wait_reason is
  'What its worker waits for, such as a quota, while nothing is wrong with the pipeline; NULL: nothing.';
comment on column embedd.pipelines.wait_until is 'When its worker goes on.';
comment on column embedd.pipelines.reembed is 'Stale rows are embedded again, after all others.';
comment on column embedd.pipelines.shadow_of is
  'While its model is switched: the pipeline whose columns this one''s are to replace.';
comment on column embedd.pipelines.model_before is
  'Of a shadow: the other pipeline''s model before the switch pinned it.';

create table embedd.leases (
  id bigint generated always as identity primary key,
  pipeline_id integer not null references embedd.pipelines on delete cascade,
  worker integer not null,
  keys text[] not null,
  claimed_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index on embedd.leases (pipeline_id);
comment on table embedd.leases is 'One row a batch in flight: the text form of its keys, and the worker that has it.';

create sequence embedd.worker_ids as integer cycle;
comment on sequence embedd.worker_ids is 'A worker holds the advisory lock (''embp'', its id) for as long as it lives.';

create table embedd.failures (
  pipeline_id integer not null references embedd.pipelines on delete cascade,
  key text not null,
  content_hash bytea not null,
  attempts integer not null default 1,
  code text not null,
  error text not null,
  failed_at timestamptz not null default now(),
  next_attempt_at timestamptz not null,
  dead boolean not null default false,
  stale boolean not null default false,
  primary key (pipeline_id, key)
);
create index on embedd.failures (pipeline_id, next_attempt_at) where not dead;
comment on table embedd.failures is 'Rows that could not be embedded as they are. A changed text makes the entry void.';
comment on column embedd.failures.content_hash is 'SHA-256 of the content columns that failed.';
comment on column embedd.failures.stale is
  'The row has a vector, of another model, and failed when it was to be embedded again.';

create table embedd.grants (
  pipeline_id integer not null references embedd.pipelines on delete cascade,
  grantee regrole not null,
  privilege text not null check (privilege in ('USAGE', 'SELECT', 'UPDATE')),
  column_name text
);
create unique index on embedd.grants (pipeline_id, grantee, privilege, coalesce(column_name, ''));
comment on table embedd.grants is
  'What embedd.grant_worker gave on users'' tables and schemas (column_name NULL), so that unwatch takes back exactly that.';

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
comment on table embedd.usage is
  'What an API provider was asked for, by pipeline and day (UTC). usd is an estimate by the model''s list price.';
comment on column embedd.usage.cut_texts is 'Texts of which the model reads only the beginning.';
comment on column embedd.usage.reserved_tokens is
  'Of requests in flight. What a worker that died had reserved counts as spent.';

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

-- pgvector may live in any schema.
do $$
declare
  vector_type text;
begin
  select format('%I.vector(384)', n.nspname) into strict vector_type
  from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector';
  execute format($sql$
    create table embedd.chunks (
      id bigint generated always as identity primary key,
      source text not null,
      position integer not null default 0,
      content text not null,
      metadata jsonb not null default '{}',
      embedding %s,
      embedding_model text
    )$sql$, vector_type);
end $$;
create index on embedd.chunks (source, position);
comment on table embedd.chunks is
  'A ready-made watched table for whoever has none: insert source, position and content.';
