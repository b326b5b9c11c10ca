/** A situation that embedd refuses, and the cure that its hint names. Each case has tables of its own. */
export interface Cure {
  code: string;
  /** SQL that causes the situation. */
  cause?: string;
  /** What is refused: SQL for psql, or a command for a shell. */
  refused: string;
  message: RegExp;
  /** The whole hint, as psql or the command shows it. */
  hint: string;
  /** What a reader types where the hint leaves a choice; by default the hint's first line. */
  typed?: string;
  /** What works afterwards. @default the refused statement */
  works?: string;
  /** The environment of a shell, instead of the DATABASE_URL of the test's database. */
  env?: Record<string, string>;
}

const columns = "id int primary key, body text, embedding vector(384), embedding_model text";
const watch = (table: string, more = ""): string => `select embedd.watch('${table}', array['body']${more})`;
const begin = (table: string, model: string, dimensions: number, index = "null"): string =>
  `select embedd.begin_switch('${table}', 'embedding', '${model}', ${dimensions}, ${index}, false)`;
const served = (table: string): string =>
  `create table ${table} (${columns}); ${watch(table)};
  update embedd.pipelines set served_model = 'old' where relation = '${table}'::regclass`;

/** Typed into psql: the hint is SQL. */
export const IN_PSQL: readonly Cure[] = [
  {
    code: "no_such_table",
    cause: `create table "Dox" (${columns})`,
    refused: watch("dox"),
    message: /there is no table dox; did you mean "Dox"\?/,
    hint: "select * from pg_tables;  -- then write schema.table",
    works: watch('"Dox"'),
  },
  {
    code: "no_such_table",
    refused: watch("nowhere"),
    message: /there is no table nowhere/,
    hint: "select * from pg_tables;  -- then write schema.table",
    works: "select 1",
  },
  {
    code: "no_primary_key",
    cause: "create table no_key (body text, embedding vector(384), embedding_model text)",
    refused: watch("no_key"),
    message: /table no_key has no primary key/,
    hint: "ALTER TABLE no_key ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;  -- or ADD PRIMARY KEY (a, b)",
  },
  {
    code: "no_such_column",
    cause: "create table no_vector (id int primary key, body text, embedding_model text)",
    refused: watch("no_vector"),
    message: /table no_vector has no column embedding/,
    hint: "ALTER TABLE no_vector ADD COLUMN embedding vector(384);",
  },
  {
    code: "no_such_column",
    cause: "create table no_model (id int primary key, body text, embedding vector(384))",
    refused: watch("no_model"),
    message: /table no_model has no column embedding_model/,
    hint: "ALTER TABLE no_model ADD COLUMN embedding_model text;",
  },
  {
    code: "embedding_type",
    cause:
      "create table other_type (id int primary key, body text, embedding real[], another_name_model text)",
    refused: watch("other_type"),
    message: /column embedding of other_type is of type real\[\], not vector/,
    hint: "ALTER TABLE other_type ADD COLUMN another_name vector(384);  -- then watch that column",
    works: watch("other_type", ", 'another_name'"),
  },
  {
    code: "no_dimension",
    cause: "create table no_dim (id int primary key, body text, embedding vector, embedding_model text)",
    refused: watch("no_dim"),
    message: /column embedding of no_dim has no fixed dimension/,
    hint: "ALTER TABLE no_dim ALTER COLUMN embedding TYPE vector(384);",
  },
  {
    code: "not_null",
    cause:
      "create table not_null (id int primary key, body text, embedding vector(384) not null, embedding_model text)",
    refused: watch("not_null"),
    message: /column embedding of not_null is NOT NULL/,
    hint: "ALTER TABLE not_null ALTER COLUMN embedding DROP NOT NULL;",
  },
  {
    code: "model_column",
    cause:
      "create table odd_model (id int primary key, body text, embedding vector(384), embedding_model int)",
    refused: watch("odd_model"),
    message: /column embedding_model of odd_model must be an ordinary, nullable text column/,
    hint: "ALTER TABLE odd_model ADD COLUMN another_name text;  -- then name it as model_column",
    works: watch("odd_model", ", model_column => 'another_name'"),
  },
  {
    code: "no_content",
    cause: `create table no_content (${columns})`,
    refused: "select embedd.watch('no_content', '{}')",
    message: /name at least one content column/,
    hint: "select embedd.watch('no_content', array['body']);",
    works: "select embedd.unwatch('no_content')",
  },
  {
    code: "later_trigger",
    cause: `create table later (${columns});
      create function nothing() returns trigger language plpgsql as 'begin return new; end';
      create trigger "zzz_embedd_ x" before update on later for each row execute function nothing();
      create trigger zzzz before update on later for each row execute function nothing()`,
    refused: watch("later"),
    message: /later has a BEFORE UPDATE trigger that runs after embedd's/,
    hint: "ALTER TRIGGER zzzz ON later RENAME TO a_zzzz;",
  },
  {
    code: "already_watched",
    cause: `create table twice (${columns}); ${watch("twice")}`,
    refused: watch("twice"),
    message: /column embedding of twice is already watched, by pipeline \d+/,
    hint: "select embedd.unwatch('twice');  -- or name another embedding_column",
  },
  {
    code: "existing_vectors",
    cause: `create table has_vectors (${columns});
      insert into has_vectors values (1, 'a', array_fill(1, array[384])::vector, 'm')`,
    refused: watch("has_vectors"),
    message: /column embedding of has_vectors has vectors/,
    hint: "existing => 'refresh'  -- re-embeds their rows in the background\nexisting => 'keep'  -- trusts them",
    typed: watch("has_vectors", ", existing => 'refresh'"),
    works: "select embedd.unwatch('has_vectors')",
  },
  {
    code: "existing_vectors",
    cause: `create table gap (${columns}); ${watch("gap")};
      insert into gap values (1, 'a', array_fill(1, array[384])::vector, 'm');
      alter table gap disable trigger user`,
    refused: "select embedd.repair('gap')",
    message: /vectors of gap may belong to earlier texts/,
    hint:
      "select embedd.repair('gap', existing => 'refresh');  -- re-embeds their rows\n" +
      "select embedd.repair('gap', existing => 'keep');  -- trusts them",
  },
  {
    code: "not_watched",
    cause: `create table plain (${columns})`,
    refused: "select embedd.unwatch('plain')",
    message: /plain is not watched/,
    hint: "select embedd.watch('plain', array['body']);",
  },
  {
    code: "not_watched",
    cause: `create table plain_too (id int primary key, body text, "v" vector(384), v_model text)`,
    refused: "select embedd.unwatch('plain_too', 'v')",
    message: /column v of plain_too is not watched/,
    hint: "select embedd.watch('plain_too', array['body'], embedding_column => 'v');",
  },
  {
    code: "not_watched",
    cause: `create table one_watched (${columns}); ${watch("one_watched")}`,
    refused: "select embedd.set_paused('one_watched', 'other', true)",
    message: /column other of one_watched is not watched, but embedding is/,
    hint: "select * from embedd.status;",
    works: "select embedd.set_paused('one_watched', 'embedding', true)",
  },
  {
    code: "no_such_table",
    refused: "select embedd.unwatch('one_watchde')",
    message: /there is no table one_watchde; did you mean one_watched\?/,
    hint: "select * from embedd.status;",
    works: "select embedd.unwatch('one_watched')",
  },
  {
    code: "no_such_role",
    refused: "select embedd.grant_worker('embedd_cure_worker')",
    message: /there is no role embedd_cure_worker/,
    hint: "CREATE ROLE embedd_cure_worker LOGIN;",
  },
  {
    code: "untrusted_owner",
    cause: `create role embedd_cure_owner; ${served("untrusted")}; alter table untrusted owner to embedd_cure_owner`,
    refused: begin("untrusted", "new", 8),
    message: /untrusted: its owner embedd_cure_owner could run code with the rights of superuser/,
    hint: "select embedd.trust_owner('embedd_cure_owner');  -- or log in as embedd_cure_owner",
  },
  {
    code: "worker_scope",
    cause: "create role embedd_cure_scope; select embedd.grant_worker('embedd_cure_scope')",
    refused: "select embedd.grant_worker('embedd_cure_scope', 'pg_monitor')",
    message: /role embedd_cure_scope already works on all watched tables/,
    hint: "select embedd.revoke_worker('embedd_cure_scope');  -- then grant it again",
  },
  {
    code: "no_current_model",
    cause: `create table unserved (${columns}); ${watch("unserved")}`,
    refused: begin("unserved", "new", 8),
    message: /no worker has served unserved\.embedding yet/,
    hint: "embedd run",
    typed: "update embedd.pipelines set served_model = 'old' where relation = 'unserved'::regclass",
  },
  {
    code: "dependents",
    cause: `${served("with_default")};
      alter table with_default alter column embedding set default array_fill(1, array[384])::vector`,
    refused: begin("with_default", "new", 8),
    message: /the default of with_default\.embedding is a vector of 384 dimensions/,
    hint: "ALTER TABLE with_default ALTER COLUMN embedding DROP DEFAULT;",
  },
  {
    code: "name_taken",
    cause: `${served("taken")}; alter table taken add column embedding_next text`,
    refused: begin("taken", "new", 8),
    message: /the switch needs the name embedding_next, but taken already has a column/,
    hint: "ALTER TABLE taken DROP COLUMN embedding_next;  -- or RENAME it",
  },
  {
    code: "name_taken",
    cause: `select setval('embedd.pipelines_id_seq', 4999); create table index_name (${columns}, title text);
      ${watch("index_name")}; drop index embedd_5000_pending; create table embedd_5000_pending ()`,
    refused: "select embedd.watch('index_name', array['title'])",
    message: /an index of index_name needs the name embedd_5000_pending, which something else has/,
    hint: "ALTER TABLE embedd_5000_pending RENAME TO embedd_5000_pending_other;  -- as its owner",
  },
  {
    code: "name_taken",
    cause: `select setval('embedd.pipelines_id_seq', 5999); create table trigger_name (${columns});
      ${watch("trigger_name")}; drop trigger zzz_embedd_6000__before_edit on trigger_name;
      create trigger zzz_embedd_6000__before_edit before update on trigger_name for each row
        execute function suppress_redundant_updates_trigger()`,
    refused: "select embedd.repair('trigger_name')",
    message:
      /a trigger of trigger_name that is not embedd's has a name that embedd needs: zzz_embedd_6000__before_edit/,
    hint: "ALTER TRIGGER zzz_embedd_6000__before_edit ON trigger_name RENAME TO a_zzz_embedd_6000__before_edit;",
  },
  {
    code: "too_many_dimensions",
    cause: served("wide"),
    refused: begin("wide", "new", 3_000, "'hnsw'"),
    message: /takes at most 2000 dimensions, not 3000/,
    hint: "--dimensions 2000  # or: --index none",
    typed: begin("wide", "new", 2_000, "'hnsw'"),
    works: "select * from embedd.status",
  },
  {
    code: "switching",
    cause: `${served("switching")}; ${begin("switching", "new", 8)}`,
    refused: begin("switching", "new", 8),
    message: /switching is being switched to another model/,
    hint: "select * from embedd.status;",
    works: "select 1",
  },
  {
    code: "same_model",
    cause: served("same"),
    refused: begin("same", "old", 384),
    message: /same\.embedding already has vectors from old with 384 dimensions/,
    hint: "embedd switch-model --help",
    typed: "select 1",
    works: begin("same", "new", 8),
  },
];

/** Typed into a shell, where `embedd` and psql lead to the test's database. */
export const IN_A_SHELL: readonly Cure[] = [
  {
    code: "no_such_column",
    cause: "create table shell_vector (id int primary key, body text, embedding_model text)",
    refused: "embedd watch shell_vector --content body",
    message: /table shell_vector has no column embedding/,
    hint: `psql "$DATABASE_URL" -c 'ALTER TABLE shell_vector ADD COLUMN embedding vector(384);'  # or add --create-columns to embedd watch`,
  },
  {
    code: "already_watched",
    cause: `create table "Shell's" (${columns}); ${watch(`"Shell''s"`)}`,
    refused: `embedd watch '"Shell'\\''s"' --content body`,
    message: /column embedding of "Shell's" is already watched/,
    hint: `embedd unwatch '"Shell'\\''s"'  # or name another column with --embedding`,
  },
  {
    code: "not_watched",
    refused: "embedd pause embedd.usage",
    message: /embedd\.usage is not watched/,
    hint: "embedd status",
    works: "true",
  },
  {
    code: "settings",
    refused: "embedd run --wait",
    message: /--wait needs --once/,
    hint: "embedd run --once --wait",
    typed: "embedd run --once --wait --help",
    works: "true",
  },
  {
    code: "no_database",
    refused: "embedd failures",
    message: /DATABASE_URL is not set/,
    hint: "export DATABASE_URL=postgres://user@host:5432/database",
    typed: "true",
    works: 'DATABASE_URL="$CURE_URL" embedd failures',
    env: { DATABASE_URL: "" },
  },
  {
    code: "no_such_role",
    refused: "embedd grant embedd_cure_shell",
    message: /there is no role embedd_cure_shell/,
    hint: `psql "$DATABASE_URL" -c 'CREATE ROLE embedd_cure_shell LOGIN;'`,
  },
  {
    code: "no_privilege",
    cause: "create role embedd_cure_app login",
    refused: 'DATABASE_URL="$APP_URL" embedd failures',
    message: /role embedd_cure_app has no rights in embedd's schema/,
    hint:
      "embedd grant --owner embedd_cure_app  # as OWNER: lets embedd_cure_app watch and manage the tables that it owns\n" +
      "embedd grant embedd_cure_app  # as OWNER: lets embedd_cure_app run the worker",
  },
  {
    code: "chunks_left",
    cause: "insert into embedd.chunks (content) values ('hello')",
    refused: "embedd uninstall",
    message: /embedd\.chunks holds 1 rows/,
    hint: "embedd uninstall --drop-chunks",
    works: "embedd migrate",
  },
];

const WORKER = "needs a worker's decision or a server's answer; the message says what happens next";
const ACCOUNT = "the cure is in the provider's account or its server";
const CHOICE = "the cure is the choice of another object, which only the reader can make";
const FILES = "the cure replaces files of the installation or of a model";
const NOTHING = "needs no cure: embedd continues on its own";
const TEXT = "the cure is another text";
const SERVER = "the cure is at the database server, which all tests share";
const PROGRAM = "the cure is in the source of the program that calls embedd";
const LOCKED = "the cure ends another session; the tests of table locks do that";

/** The codes whose cure no test types, and why. */
export const NOT_TYPED: Readonly<Record<string, string>> = {
  api_key: ACCOUNT,
  argument: PROGRAM,
  bad_request: ACCOUNT,
  base_url: "settings of a provider: test/unit/providers/openai/settings.test.ts sets them",
  behind: WORKER,
  blank: TEXT,
  bundled: PROGRAM,
  cannot_grant:
    "the cure is GRANT as another role; test/server/admin/exact-privileges.test.ts has such roles",
  content_column: CHOICE,
  daily_limit: ACCOUNT,
  daily_limit_reserved: NOTHING,
  database_unavailable: SERVER,
  database_unreachable: SERVER,
  dead_rows: WORKER,
  dimensions: ACCOUNT,
  embedded_start: "needs no server: test/unit/embedded/cannot-start.test.ts types its cures",
  embedded_stopped: "needs no server: test/unit/embedded/data-directory.test.ts types its cure",
  env_file: "needs a .env file; test/db/cli/env-file.test.ts types it",
  failed_input: TEXT,
  forbidden: ACCOUNT,
  foreign_migrations: "test/db/admin/migrate.test.ts takes the step in its own process",
  foreign_schema: "the cure is to log in as another role; test/security/squatting.test.ts does",
  generated_column: CHOICE,
  incomplete_package: FILES,
  index_unfinished: "a build has to be canceled first; test/security/snapshot.test.ts types the cure",
  inheritance: CHOICE,
  local_inference_crashed: NOTHING,
  local_inference_failed: NOTHING,
  locked: LOCKED,
  login: SERVER,
  model: "settings of a provider: test/unit/providers/openai/settings.test.ts sets them",
  model_checksum: FILES,
  model_config: FILES,
  model_missing: FILES,
  model_tokenizer: FILES,
  model_unusable: FILES,
  model_weights: FILES,
  native_library: FILES,
  newer_schema: FILES,
  no_dimensions: WORKER,
  no_pgvector: SERVER,
  no_pipeline: WORKER,
  no_such_database: SERVER,
  no_switch: WORKER,
  no_table: CHOICE,
  no_target: CHOICE,
  not_a_table: CHOICE,
  not_found: ACCOUNT,
  not_migrated: "the cure of chunks_left above ends with it",
  not_owner: "test/server/admin/owner-commands.test.ts and exact-privileges.test.ts have the roles",
  not_whole: WORKER,
  other_build: "test/db/admin/migrate.test.ts takes the steps in its own process",
  partition: CHOICE,
  pooler: SERVER,
  port_in_use: CHOICE,
  provider_closed: PROGRAM,
  quota: ACCOUNT,
  rate_limited: NOTHING,
  read_only: "the cure is another server, or a setting of it; test/faults/standby.test.ts has one",
  redirect: ACCOUNT,
  refused: "raised only for codes of another version",
  refused_input: TEXT,
  shared_model_column: CHOICE,
  slow_swap: LOCKED,
  stopping: NOTHING,
  switch_runs: LOCKED,
  system_table: CHOICE,
  template: CHOICE,
  temporary_table: CHOICE,
  timeout: NOTHING,
  tls: SERVER,
  too_long: TEXT,
  unauthorized: ACCOUNT,
  unavailable: NOTHING,
  unknown_price: ACCOUNT,
  unreachable: ACCOUNT,
  unusable_vector: TEXT,
  which_table: CHOICE,
  white_space: TEXT,
  wrong_answer: ACCOUNT,
  wrong_dimensions: ACCOUNT,
  wrong_model: ACCOUNT,
};
