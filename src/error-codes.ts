/**
 * The kind of an error decides what happens next: `configuration` stops the command, `provider` backs off
 * and charges no row, `row` charges that row alone, `database` tries again.
 */
export type ErrorKind = "configuration" | "provider" | "row" | "database";

interface ErrorEntry {
  kind: ErrorKind;
  /** A sentence without the table's, column's or variable's name, which the message gives. */
  meaning: string;
  fix: string;
}

/**
 * Every code that embedd raises or records in embedd.failures, one per line, in alphabetical order. Besides these,
 * embedd.failures holds the SQLSTATE of an UPDATE that the table refused.
 */
// prettier-ignore
export const ERROR_CODES = {
  already_watched: { kind: "configuration", meaning: "The embedding column is already watched.", fix: "Run `embedd unwatch` first, or name another column with --embedding." },
  api_key: { kind: "configuration", meaning: "The provider's API key is missing, unreadable or malformed.", fix: "Set the variable that the message names." },
  argument: { kind: "configuration", meaning: "A program handed an invalid argument to a function of the library.", fix: "Correct each argument that the message names." },
  bad_request: { kind: "provider", meaning: "The server rejects the request regardless of its texts.", fix: "Correct EMBEDD_MODEL or EMBEDD_DIMENSIONS." },
  base_url: { kind: "configuration", meaning: "The provider has no default address.", fix: "Set EMBEDD_BASE_URL." },
  behind: { kind: "configuration", meaning: "Too many rows still lack a vector of the new model, so the columns were not swapped.", fix: "Keep `embedd run` of the new model running; `embedd switch-model` tries again." },
  blank: { kind: "row", meaning: "The part of the text that embedd reads is blank.", fix: "Change the text, or raise EMBEDD_MAX_CHARS." },
  bundled: { kind: "configuration", meaning: "The program is a bundle, which lacks the local model's files or the migrations.", fix: "Mark pg-embedd as external in the bundler, and install it next to the program." },
  cannot_grant: { kind: "configuration", meaning: "The role that runs `embedd grant` may not grant a privilege that the other role needs.", fix: "Run the GRANT that the message names as the object's owner." },
  chunks_left: { kind: "configuration", meaning: "embedd.chunks still holds rows, which `embedd uninstall` would delete.", fix: "Run `embedd uninstall --drop-chunks`." },
  content_column: { kind: "configuration", meaning: "A content column is named twice, or is a column that embedd writes.", fix: "Name each text column once." },
  daily_limit: { kind: "provider", meaning: "The daily limit of tokens or dollars is reached.", fix: "Wait until midnight UTC, or raise the limit." },
  daily_limit_reserved: { kind: "provider", meaning: "Requests in flight have reserved the rest of the daily limit.", fix: "Nothing: the worker continues when they end." },
  database_unavailable: { kind: "database", meaning: "The database server refuses connections for now: it starts, stops, or has none left.", fix: "Wait, or raise max_connections." },
  database_unreachable: { kind: "database", meaning: "No PostgreSQL server answers at the address.", fix: "Start the server, or correct DATABASE_URL." },
  dead_rows: { kind: "configuration", meaning: "Some rows could not be embedded with the new model and would lose their vector in the swap.", fix: "Run `embedd failures --dead`, then `embedd retry` or `embedd switch-model … --force`." },
  dependents: { kind: "configuration", meaning: "Views or other objects depend on columns that a switch would replace, or on the schema that uninstall would drop.", fix: "Drop them, and create them again after the switch; `embedd uninstall --cascade` drops them." },
  dimensions: { kind: "configuration", meaning: "The model cannot produce the number of dimensions that was asked for, or that the column has.", fix: "Unset EMBEDD_DIMENSIONS, choose another EMBEDD_MODEL, or use a column with the model's dimensions." },
  embedded_start: { kind: "configuration", meaning: "Embedded PostgreSQL does not start in its directory.", fix: "Move the directory away, or choose another with EMBEDD_DATA_DIR." },
  embedding_type: { kind: "configuration", meaning: "The embedding column is neither vector(n) nor halfvec(n).", fix: "Add a column of type vector(n), and name it with --embedding." },
  existing_vectors: { kind: "configuration", meaning: "The embedding column has vectors, and embedd cannot know whether they belong to the texts as they are now.", fix: "Add --existing refresh to re-embed their rows, or --existing keep to trust them." },
  failed_input: { kind: "row", meaning: "The server fails on this text each time, while it embeds others.", fix: "Change the text, or run `embedd retry`." },
  forbidden: { kind: "provider", meaning: "The API key has no permission for the model.", fix: "Give the key that permission, or use another key." },
  foreign_migrations: { kind: "configuration", meaning: "Another application uses graphile_migrate.migrations in this database.", fix: "Run `embedd migrate --sql | psql -v ON_ERROR_STOP=1 \"$DATABASE_URL\"`." },
  foreign_schema: { kind: "configuration", meaning: "Another role owns a schema that embedd uses, or something in it, so its code would run with your rights.", fix: "Log in as that role if it installed embedd; otherwise drop what it made." },
  generated_column: { kind: "configuration", meaning: "The embedding column is generated, so embedd cannot write it.", fix: "Name an ordinary column with --embedding." },
  incomplete_package: { kind: "configuration", meaning: "A file of embedd is missing, for example because a bundler left it out.", fix: "Mark the package as external in the bundler, or run `npm ci`." },
  index_unfinished: { kind: "database", meaning: "The build of the index of pending rows was canceled, which leaves an invalid index.", fix: "Run `embedd repair` for the table." },
  inheritance: { kind: "configuration", meaning: "The table takes part in table inheritance, where a primary key does not identify a row.", fix: "Use declarative partitioning, or `ALTER TABLE … NO INHERIT`." },
  later_trigger: { kind: "configuration", meaning: "A BEFORE UPDATE trigger of the table runs after embedd's and could change the text unseen.", fix: "Rename that trigger so that it sorts before `zzz_embedd`." },
  local_inference_crashed: { kind: "provider", meaning: "The inference thread ended unexpectedly.", fix: "Nothing: the next batch starts a new thread. If it repeats, check the process's memory limit." },
  local_inference_failed: { kind: "provider", meaning: "ONNX Runtime failed on a batch.", fix: "Read the message; the batch is tried again." },
  locked: { kind: "database", meaning: "A transaction holds a lock on the table for too long.", fix: "End that transaction, then run the command again." },
  login: { kind: "configuration", meaning: "The database server does not accept the role or its password.", fix: "Correct the user and password in DATABASE_URL." },
  model: { kind: "configuration", meaning: "The provider has no default model.", fix: "Set EMBEDD_MODEL." },
  model_checksum: { kind: "configuration", meaning: "The built-in model's weights are damaged.", fix: "Run `npm ci`." },
  model_column: { kind: "configuration", meaning: "The model column is not an ordinary, nullable text column.", fix: "Add a column of type text, and name it with --model-column." },
  model_config: { kind: "configuration", meaning: "The model's files describe a model that embedd cannot run.", fix: "Use another EMBEDD_MODEL_PATH; for the built-in model run `npm ci`." },
  model_missing: { kind: "configuration", meaning: "There is no model at that path.", fix: "Correct EMBEDD_MODEL_PATH; for the built-in model run `npm ci`." },
  model_tokenizer: { kind: "configuration", meaning: "The model's tokenizer.json cannot be used.", fix: "Use the tokenizer.json that belongs to the model." },
  model_unusable: { kind: "configuration", meaning: "ONNX Runtime cannot load the model.", fix: "Export the model again, or use another EMBEDD_MODEL_PATH." },
  model_weights: { kind: "configuration", meaning: "The model's weights are damaged or incomplete.", fix: "Copy the model again; for the built-in model run `npm ci`." },
  name_taken: { kind: "configuration", meaning: "Another column, trigger, table or index already has a name that embedd needs.", fix: "Rename what has it." },
  native_library: { kind: "configuration", meaning: "A native library of the local model cannot be loaded: a missing or damaged file, musl instead of glibc, or another processor.", fix: "Run `npm ci`; on a system that the message does not list, use an API provider." },
  newer_schema: { kind: "configuration", meaning: "A newer embedd migrated this database.", fix: "Use that version of embedd." },
  no_content: { kind: "configuration", meaning: "No content column is named.", fix: "Run `embedd watch docs --content body`." },
  no_current_model: { kind: "configuration", meaning: "No worker has served the column yet, so its current model is unknown.", fix: "Run `embedd run` first." },
  no_database: { kind: "configuration", meaning: "No database is named.", fix: "Set DATABASE_URL, or add `--embedded` to try embedd without a server." },
  no_dimension: { kind: "configuration", meaning: "The embedding column has no fixed dimension.", fix: "Run `ALTER TABLE … ALTER COLUMN … TYPE vector(384)`." },
  no_dimensions: { kind: "configuration", meaning: "embedd does not know how many dimensions the new model produces.", fix: "Add --dimensions." },
  no_pgvector: { kind: "configuration", meaning: "The database server has no pgvector.", fix: "Install the server's pgvector package, such as postgresql-17-pgvector." },
  no_pipeline: { kind: "configuration", meaning: "The worker can serve none of the watched tables.", fix: "Run `embedd status`, and correct what it reports." },
  no_primary_key: { kind: "configuration", meaning: "The table has no primary key.", fix: "Run `ALTER TABLE … ADD PRIMARY KEY`." },
  no_privilege: { kind: "configuration", meaning: "The role lacks a privilege, which the message names.", fix: "Grant it, or connect as another role." },
  no_such_column: { kind: "configuration", meaning: "The table has no such column.", fix: "Correct the name, or add the column; `embedd watch --create-columns` adds the embedding columns." },
  no_such_database: { kind: "configuration", meaning: "The server has no such database.", fix: "Run `createdb`, or correct DATABASE_URL." },
  no_such_role: { kind: "configuration", meaning: "There is no such role.", fix: "Run `CREATE ROLE … LOGIN`." },
  no_such_table: { kind: "configuration", meaning: "There is no such table.", fix: "Correct the name, and write it as schema.table if its schema is not in the search path." },
  no_switch: { kind: "configuration", meaning: "The table is not being switched to another model.", fix: "Run `embedd switch-model --status`." },
  no_table: { kind: "configuration", meaning: "The command needs a table.", fix: "Name one: `embedd switch-model docs`." },
  no_target: { kind: "configuration", meaning: "The new model or its dimensions are not given.", fix: "Add --model and --dimensions." },
  not_a_table: { kind: "configuration", meaning: "It is a view, a foreign table or another object that has no triggers.", fix: "Watch the table behind it." },
  not_found: { kind: "provider", meaning: "The server has no such address or model.", fix: "Correct EMBEDD_MODEL, EMBEDD_DEPLOYMENT or EMBEDD_BASE_URL." },
  not_migrated: { kind: "configuration", meaning: "The database has no embedd schema, or an old one.", fix: "Run `embedd migrate`." },
  not_null: { kind: "configuration", meaning: "The embedding column is NOT NULL, but a pending row has NULL there.", fix: "Run `ALTER TABLE … ALTER COLUMN … DROP NOT NULL`." },
  not_owner: { kind: "configuration", meaning: "Only the table's owner can do this.", fix: "Connect as the owner; if another role migrated the schema, it runs `embedd grant --owner` for the owner." },
  not_watched: { kind: "configuration", meaning: "The table or column is not watched.", fix: "Run `embedd watch`, or correct the name." },
  not_whole: { kind: "configuration", meaning: "A column that the switch needs no longer exists.", fix: "Run `embedd switch-model … --abort`." },
  other_build: { kind: "configuration", meaning: "Another pre-release build of embedd made this database's schema; vectors stay when it is replaced.", fix: "Run `embedd uninstall && embedd migrate`, then `embedd watch` for each table." },
  partition: { kind: "configuration", meaning: "The table is a partition.", fix: "Watch its parent." },
  pooler: { kind: "configuration", meaning: "A transaction pooler is between embedd and PostgreSQL, so session locks and notifications do not work.", fix: "Set DATABASE_URL to PostgreSQL's own host and port; writers may keep using the pooler." },
  port_in_use: { kind: "configuration", meaning: "Another process uses the port of embedded PostgreSQL.", fix: "Choose another port." },
  provider_closed: { kind: "provider", meaning: "The program used a provider after closing it.", fix: "Close the provider after the worker has stopped." },
  quota: { kind: "provider", meaning: "The account's quota is used up.", fix: "Wait, or raise the quota with the provider." },
  rate_limited: { kind: "provider", meaning: "The server received too many requests or tokens.", fix: "Nothing: embedd waits as long as the server asks." },
  read_only: { kind: "database", meaning: "The server takes no writes: it is a standby, or default_transaction_read_only is on.", fix: "Use the primary's address, or reset default_transaction_read_only." },
  redirect: { kind: "configuration", meaning: "The server redirects to another address, which embedd does not follow: it would send the key and the texts there.", fix: "Set EMBEDD_BASE_URL to the address that the message names, if it is yours." },
  refused: { kind: "configuration", meaning: "The embedd schema refused the command with a code that this version does not know.", fix: "Follow the message, or use the version of embedd that migrated the database." },
  refused_input: { kind: "row", meaning: "The server rejects this text.", fix: "Change the text, or run `embedd retry`." },
  same_model: { kind: "configuration", meaning: "The column already uses that model and dimension.", fix: "Nothing, or name another model." },
  settings: { kind: "configuration", meaning: "Environment variables or flags are invalid.", fix: "Correct each one that the message names." },
  shared_model_column: { kind: "configuration", meaning: "Two embedding columns share one model column.", fix: "Run `embedd unwatch` for one, and watch it again with its own --model-column." },
  slow_swap: { kind: "database", meaning: "The swap held its lock for too long and was rolled back.", fix: "Run the command again when the server is less busy; it resumes." },
  stopping: { kind: "provider", meaning: "The worker is stopping, so it abandoned the batch.", fix: "Nothing: the rows are released." },
  switch_runs: { kind: "configuration", meaning: "Another `embedd switch-model` of the table is running, or was just killed.", fix: "Wait for it; `embedd switch-model … --status` shows its progress." },
  switching: { kind: "configuration", meaning: "The table is being switched to another model.", fix: "Wait for the switch, or end it with `embedd switch-model … --abort`." },
  system_table: { kind: "configuration", meaning: "The table belongs to PostgreSQL or to embedd.", fix: "Watch one of your own tables." },
  template: { kind: "configuration", meaning: "The template has a lone brace, names no content column, or names another column.", fix: "Write `{title}` for a column and `{{` for a brace, or add the column with --content." },
  temporary_table: { kind: "configuration", meaning: "The table is temporary, so no worker can see it.", fix: "Watch a permanent table." },
  timeout: { kind: "provider", meaning: "The server did not answer in time.", fix: "Nothing, or raise EMBEDD_TIMEOUT_MS." },
  tls: { kind: "configuration", meaning: "The connection's encryption cannot be set up, or the server's certificate cannot be verified.", fix: "Set sslmode and sslrootcert in DATABASE_URL." },
  too_long: { kind: "row", meaning: "The text exceeds the model's token limit, and EMBEDD_LONG_TEXT is `refuse`, or the server found even its beginning too long.", fix: "Shorten the text, or set EMBEDD_LONG_TEXT=truncate." },
  too_many_dimensions: { kind: "configuration", meaning: "The column's type or index does not support that many dimensions.", fix: "Choose fewer --dimensions, or --index none." },
  unauthorized: { kind: "provider", meaning: "The server rejects the API key, or needs one.", fix: "Set the variable that the message names." },
  unavailable: { kind: "provider", meaning: "The server failed or is overloaded.", fix: "Nothing: embedd tries again." },
  unknown_price: { kind: "configuration", meaning: "A limit in dollars is set, but the model's price is unknown.", fix: "Set EMBEDD_USD_PER_MILLION_TOKENS." },
  unreachable: { kind: "provider", meaning: "The connection to the server failed.", fix: "Check EMBEDD_BASE_URL and the network; embedd tries again." },
  unusable_vector: { kind: "row", meaning: "The model returned a vector of zeros, or with a component that is not finite, for this text.", fix: "Change the text, or run `embedd retry`." },
  which_table: { kind: "configuration", meaning: "Several tables are watched.", fix: "Add --table." },
  white_space: { kind: "row", meaning: "The text is nothing but white space. The row counts as blank, not as failed.", fix: "Nothing: an edit makes the row pending." },
  wrong_answer: { kind: "provider", meaning: "The server's answer is not a valid embeddings answer.", fix: "Check EMBEDD_BASE_URL; embedd tries again." },
  wrong_dimensions: { kind: "provider", meaning: "The model returned a number of dimensions that the column does not have.", fix: "Set EMBEDD_DIMENSIONS or EMBEDD_MODEL, or use a column with the model's dimension." },
  wrong_model: { kind: "provider", meaning: "The server answered with another model than the one asked for.", fix: "Set EMBEDD_MODEL or EMBEDD_DEPLOYMENT to the model that the server runs." },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERROR_CODES;

export function isErrorCode(code: string | undefined): code is ErrorCode {
  return code !== undefined && Object.hasOwn(ERROR_CODES, code);
}
