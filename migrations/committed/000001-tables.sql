--! Previous: -
--! Hash: sha1:1a886f133aba7ed5f1483b6f89f6ba969f73d56a
--! Message: tables

-- Tables. embedd keeps its state here and writes only vectors and model names to a user's table: an UPDATE there
-- adds an entry to every index, and HNSW entries are expensive.

create extension if not exists vector;
set local search_path = pg_catalog, pg_temp;

create schema embedd;
comment on schema embedd is 'embedd, the embedding daemon: keeps the vectors of watched tables up to date.';

-- The error's constraint field carries the code, so that scripts can compare it.
create function embedd.refuse(code text, message text, hint text, shell_hint text default null) returns void
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  raise exception using errcode = 'EMBDD', constraint = code, message = message, hint = hint,
    column = coalesce(shell_hint, '');
end $$;
comment on function embedd.refuse(text, text, text, text) is
  'Raises an error with a literal code, a message and a hint that says what to type in psql. shell_hint is what to type in a '
  'shell instead, where that differs: the command shows it, and psql does not.';

create function embedd.shell_word(word text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp as $$
  select case
    when word ~ '^[A-Za-z0-9_./:@%+=-]+$' then word
    when word ~ '[[:cntrl:]]' then '$''' || replace(replace(replace(word, '\', '\\'), '''', '\'''), E'\n', '\n') || ''''
    else '''' || replace(word, '''', '''\''''') || ''''
  end
$$;
comment on function embedd.shell_word(text) is 'A word as a shell reads it.';

-- A role that may create objects in a schema of the caller's search path could put functions and operators there that PostgreSQL
-- prefers to its own. So every function has a path of its own, but for the next, and what a caller names is looked up in the
-- caller's path.
create function embedd.caller_path() returns text
language sql stable as $$
  select coalesce(pg_catalog.current_setting('embedd.search_path', true), pg_catalog.current_setting('search_path'))
$$;
comment on function embedd.caller_path() is
  'The search path of the caller. embedd''s own sessions have a fixed one, and keep the role''s in embedd.search_path.';

create function embedd.session_path() returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select coalesce(
    current_setting('embedd.search_path', true),
    (select s.reset_val from pg_settings s where s.name = 'search_path'))
$$;
comment on function embedd.session_path() is 'The search path with which the session began.';

create function embedd.name_of(relation regclass) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  name text;
begin
  perform set_config('search_path', embedd.session_path(), true);
  name := relation;
  return name;
end $$;
comment on function embedd.name_of(regclass) is
  'A table''s name as the role writes it: with its schema if that is not in the path with which the session began.';

create function embedd.type_name(type oid, modifier integer) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('search_path', embedd.session_path(), true);
  return pg_catalog.format_type(type, modifier);
end $$;
comment on function embedd.type_name(oid, integer) is
  'A type''s name as the role writes it: with its schema if that is not in the path with which the session began.';

create function embedd.routine_named(signature text, out routine regprocedure, out name text)
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('search_path', embedd.session_path(), true);
  routine := pg_catalog.to_regprocedure(signature);
  name := routine;
end $$;
comment on function embedd.routine_named(text) is
  'The function that this signature means in the path with which the session began, and its name there.';

-- Workers' roles may write to many columns. Where a value such as infinity would break what reads it, the column refuses it.
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
  caught_up_at timestamptz check (caught_up_at between '1970-01-01' and '9999-12-31'),
  created_at timestamptz not null default now(),
  served_model text,
  served_by integer,
  former_models text[] not null default '{}',
  wait_reason text,
  wait_until timestamptz check (wait_until between '1970-01-01' and '9999-12-31'),
  reembed boolean not null default false,
  refresh_started_at timestamptz check (refresh_started_at between '1970-01-01' and '9999-12-31'),
  refresh_cursor text[],
  refreshed bigint not null default 0 check (refreshed >= 0),
  shadow_of integer unique references embedd.pipelines,
  model_before text,
  relation_schema text,
  relation_name text,
  relation_identity text,
  key_attnums smallint[],
  content_attnums smallint[],
  embedding_attnum smallint,
  model_attnum smallint,
  gap text,
  trigger_versions jsonb check (jsonb_typeof(trigger_versions) = 'object'),
  replaced_by oid,
  unique (relation, embedding_column)
);
comment on table embedd.pipelines is 'One row per watched embedding column. Written by embedd.watch and embedd.unwatch.';
comment on column embedd.pipelines.relation_schema is 'The table''s schema when it was last seen.';
comment on column embedd.pipelines.relation_name is 'The table''s name when it was last seen.';
comment on column embedd.pipelines.relation_identity is
  'Server, database and OID of the table that the column numbers are from. A restored dump has other numbers.';
comment on column embedd.pipelines.key_attnums is 'Numbers of the key columns, which survive a rename.';
comment on column embedd.pipelines.content_attnums is 'Numbers of the content columns.';
comment on column embedd.pipelines.embedding_attnum is 'Number of the embedding column.';
comment on column embedd.pipelines.model_attnum is 'Number of the model column.';
comment on column embedd.pipelines.key_columns is 'The columns of the primary key, in order.';
comment on column embedd.pipelines.content_columns is 'The columns that the text is made of, in order.';
comment on column embedd.pipelines.template is
  '''{title}\n\n{body}'', rendered by the worker; NULL: one column per line.';
comment on column embedd.pipelines.model_column is 'The column for the name of the model that made the vector.';
comment on column embedd.pipelines.model is 'Only workers with this model serve the pipeline; NULL: workers with any model.';
comment on column embedd.pipelines.paused is 'Workers claim no rows while this is true.';
comment on column embedd.pipelines.index_method is
  'The vector index that a worker builds after the backlog; NULL: none.';
comment on column embedd.pipelines.error is 'Why no worker can serve the pipeline; NULL: nothing is wrong.';
comment on column embedd.pipelines.caught_up_at is 'When a worker last found no pending row.';
comment on column embedd.pipelines.served_model is
  'The model that serves the pipeline, or last did. Vectors from other models are stale.';
comment on column embedd.pipelines.served_by is 'The id of a worker that serves the pipeline, or last did.';
comment on column embedd.pipelines.former_models is
  'The models that served the pipeline before. A save that names one of them brings no vector of its own.';
comment on column embedd.pipelines.wait_reason is
  'Why the worker waits, such as a daily limit, although the pipeline is fine; NULL: it does not wait.';
comment on column embedd.pipelines.wait_until is 'When the worker resumes.';
comment on column embedd.pipelines.reembed is 'Whether workers re-embed stale rows, after all pending rows.';
comment on column embedd.pipelines.gap is
  'Why vectors may not belong to their texts, until embedd repair or embedd reembed --all; NULL: all are trusted.';
comment on column embedd.pipelines.trigger_versions is
  'By OID of the table and each partition: the versions of the triggers that drop outdated vectors, as they were first seen.';
comment on column embedd.pipelines.replaced_by is
  'The table that took the name of this one when it was renamed; NULL: none did, or it was repaired.';
comment on column embedd.pipelines.refresh_started_at is
  'Since when workers re-embed every row that has a vector; NULL: they do not.';
comment on column embedd.pipelines.refresh_cursor is
  'The key, as text, down to which the refresh has been handed to workers; NULL: nothing yet; empty: all of the table.';
comment on column embedd.pipelines.refreshed is 'Rows that the refresh has dealt with.';
comment on column embedd.pipelines.shadow_of is
  'During a model switch: the pipeline whose columns this one will replace.';
comment on column embedd.pipelines.model_before is
  'In a shadow pipeline: what model was in the other pipeline before the switch set it.';

create table embedd.leases (
  id bigint generated always as identity primary key,
  pipeline_id integer not null references embedd.pipelines on delete cascade,
  worker integer not null,
  keys text[] not null,
  claimed_at timestamptz not null default clock_timestamp() check (claimed_at between '1970-01-01' and '9999-12-31'),
  expires_at timestamptz not null check (expires_at between '1970-01-01' and '9999-12-31')
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index on embedd.leases (pipeline_id);
comment on table embedd.leases is 'One row per batch in flight.';
comment on column embedd.leases.worker is 'The id of the worker that claimed the rows.';
comment on column embedd.leases.keys is 'The primary keys of the claimed rows, as text.';
comment on column embedd.leases.expires_at is 'When other workers may claim the rows.';

create table embedd.refresh_windows (
  id bigint generated always as identity primary key,
  pipeline_id integer not null references embedd.pipelines on delete cascade,
  worker integer not null,
  below text[],
  down_to text[],
  expires_at timestamptz not null check (expires_at between '1970-01-01' and '9999-12-31')
);
create index on embedd.refresh_windows (pipeline_id);
comment on table embedd.refresh_windows is
  'The ranges of keys that a refresh has handed to workers. What a lost worker leaves is handed to another.';
comment on column embedd.refresh_windows.worker is 'The id of the worker that refreshes the range.';
comment on column embedd.refresh_windows.below is 'The range starts below this key; NULL: at the newest key.';
comment on column embedd.refresh_windows.down_to is 'The last key of the range; NULL: the oldest key.';
comment on column embedd.refresh_windows.expires_at is 'When another worker may take the range.';

create sequence embedd.worker_ids as integer cycle;
comment on sequence embedd.worker_ids is 'Worker ids. A worker holds the advisory lock (''embp'', its id) while it is connected.';

create table embedd.failures (
  pipeline_id integer not null references embedd.pipelines on delete cascade,
  key text not null,
  content_hash bytea not null,
  attempts integer not null default 1 check (attempts between 0 and 1000000000),
  code text not null,
  error text not null,
  failed_at timestamptz not null default now() check (failed_at between '1970-01-01' and '9999-12-31'),
  next_attempt_at timestamptz not null check (next_attempt_at between '1970-01-01' and '9999-12-31'),
  dead boolean not null default false,
  stale boolean not null default false,
  unreadable boolean not null default false,
  refresh boolean not null default false,
  primary key (pipeline_id, key)
);
create index on embedd.failures (pipeline_id, next_attempt_at) where not dead;
comment on table embedd.failures is 'Rows that could not be embedded. An entry no longer counts once the row''s text changes.';
comment on column embedd.failures.key is 'The primary key of the row, as text.';
comment on column embedd.failures.code is
  'A literal code of the error, for scripts. white_space: the row is blank, which is no failure.';
comment on column embedd.failures.error is 'The message of the last error.';
comment on column embedd.failures.dead is 'The row is no longer retried; embedd retry tries it again.';
comment on column embedd.failures.content_hash is 'SHA-256 of the content columns that failed. Never the text.';
comment on column embedd.failures.unreadable is
  'PostgreSQL could not read the text, so content_hash identifies the version of the row instead.';
comment on column embedd.failures.stale is
  'The row has an old vector, and re-embedding it failed.';
comment on column embedd.failures.refresh is
  'A refresh failed to re-embed it, so its vector is old even where the row names the current model.';

create table embedd.grants (
  pipeline_id integer not null references embedd.pipelines on delete cascade,
  grantee regrole not null,
  privilege text not null check (privilege in ('USAGE', 'SELECT', 'UPDATE')),
  object_name text not null,
  object_number bigint not null,
  -- A publication for all tables refuses DELETE on a table without a key.
  primary key (pipeline_id, grantee, privilege, object_name)
);
comment on table embedd.grants is
  'The privileges that embedd granted on users'' tables and schemas, so that unwatch revokes exactly those.';
comment on column embedd.grants.object_name is 'A column; for USAGE, the schema.';
comment on column embedd.grants.object_number is
  'The number of the column; for USAGE, the OID of the schema. It survives a rename, the name survives a restored dump.';

create table embedd.shared_grants (
  grantee regrole not null,
  kind text not null check (kind in ('schema', 'routine')),
  object oid not null,
  privilege text not null,
  primary key (grantee, kind, object, privilege)
);
comment on table embedd.shared_grants is
  'The privileges that embedd granted on schemas and functions of others, such as pgvector''s, so that it revokes exactly those.';

create table embedd.trusted_owners (
  owner regrole primary key
);
comment on table embedd.trusted_owners is
  'Owners of tables whose code may run with the rights of whoever reads their tables. Written by embedd.trust_owner.';
-- A name is no secret, and whoever reads embedd.status needs them.
grant select on embedd.trusted_owners to public;

create table embedd.worker_scopes (
  role regrole primary key,
  owner regrole not null
);
comment on table embedd.worker_scopes is
  'Workers'' roles that serve the tables of one owner alone. Those that are missing serve all tables.';
grant select on embedd.worker_scopes to public;

-- No foreign key to pipelines: usage stays on record after a table is unwatched.
create table embedd.usage (
  pipeline_id integer not null,
  day date not null check (isfinite(day)),
  model text not null,
  local boolean not null default false,
  requests bigint not null default 0 check (requests between -1e15 and 1e15),
  tokens bigint not null default 0 check (tokens between -1e15 and 1e15),
  texts bigint not null default 0 check (texts between -1e15 and 1e15),
  cut_texts bigint not null default 0 check (cut_texts between -1e15 and 1e15),
  reserved_tokens bigint not null default 0 check (reserved_tokens between -1e15 and 1e15),
  usd numeric not null default 0 check (usd between -1e15 and 1e15),
  primary key (day, pipeline_id, model, local)
);
comment on table embedd.usage is
  'What models read, per pipeline and day (UTC). usd is an estimate from the model''s list price.';
comment on column embedd.usage.local is 'The model ran in the worker: it sent no requests, and daily limits do not count it.';
comment on column embedd.usage.texts is 'Texts that the model embedded. A text that reuses a cached vector does not count.';
comment on column embedd.usage.cut_texts is
  'Those of them that were truncated, at the model''s limit or at EMBEDD_MAX_CHARS.';
comment on column embedd.usage.reserved_tokens is
  'Tokens of requests in flight. If a worker dies, its reserved tokens count as used.';

-- The vector cache stores hashes, never texts. It is unlogged: a server crash empties it, and vectors are computed again.
do $$
declare
  vector_type text;
begin
  select format('%I.vector', n.nspname) into strict vector_type
  from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector';
  execute format($sql$
    create unlogged table embedd.vectors (
      owner oid not null,
      text_hash bytea not null,
      model text not null,
      dimensions integer not null,
      embedding %s not null,
      used_at timestamptz not null default now() check (isfinite(used_at)),
      primary key (text_hash, model, dimensions, owner)
    )$sql$, vector_type);
end $$;
create index on embedd.vectors (used_at);
-- Space of deleted vectors is reused only after a vacuum, so vacuum early.
alter table embedd.vectors set (autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02);
comment on table embedd.vectors is
  'The vector cache: vectors by text hash, reused for rows with the same text, model and owner of the table.';
comment on column embedd.vectors.used_at is 'When a row last used the vector; the oldest are deleted first.';
comment on column embedd.vectors.owner is 'The OID of the role that owns the tables.';
comment on column embedd.vectors.text_hash is
  'SHA-256 of how the model reads the text where its name does not tell, and of the text.';

-- pgvector may be installed in any schema.
do $$
declare
  vector_type text;
begin
  select format('%I.vector(384)', n.nspname) into strict vector_type
  from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector';
  execute format($sql$
    create table embedd.chunks (
      id bigint generated always as identity primary key,
      source text not null default '',
      position integer not null default 0,
      content text not null,
      metadata jsonb not null default '{}',
      embedding %s,
      embedding_model text
    )$sql$, vector_type);
end $$;
create index on embedd.chunks (source, position);
comment on table embedd.chunks is
  'A ready-made watched table: insert content, and source and position if a text is cut into chunks.';
comment on column embedd.chunks.source is 'What the chunk is a part of, such as a file name.';
comment on column embedd.chunks.position is 'The ordinal of the chunk in its source.';
