import pg from "pg";
import { expect, it, onTestFinished } from "vitest";
import { migrate } from "#embedd/admin/migrate.js";
import { uninstall } from "#embedd/admin/uninstall.js";
import { unwatch, watch } from "#embedd/admin/watch.js";
import { withOwnerClient } from "#embedd/database/pool.js";
import { createWatchedDocs } from "../../helpers/api-cli.js";
import { spawnCli } from "../../helpers/cli.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

/** An event trigger makes every CREATE INDEX take longer than the limits of the owner's role allow. */
const SLOW_INDEXES = `
create function slow_index() returns event_trigger language plpgsql as $$ begin perform pg_sleep(3); end $$;
create event trigger slow_index on ddl_command_start when tag in ('CREATE INDEX') execute function slow_index()`;

/** A role that owns its database, with limits as for requests; dropped when the test ends. */
async function createOwner(
  limits: string,
): Promise<{ url: string; role: string; query: (sql: string) => Promise<pg.QueryResult> }> {
  const database = await db.createDatabase();
  const role = `embedd_test_${Math.random().toString(36).slice(2, 12)}`;
  await database.query(`create role ${role} login superuser; ${limits.replaceAll("owner", role)}`);
  onTestFinished(async () => {
    await database.drop();
    await db.query(`drop role ${role}`);
  });
  const url = new URL(database.url);
  url.username = role;
  return { url: url.toString(), role, query: (sql) => database.query(sql) };
}

const LIMITS = `alter role owner set statement_timeout = '2s'; alter role owner set lock_timeout = '2s';
  alter role owner set idle_in_transaction_session_timeout = '2s'; alter role owner set idle_session_timeout = '2s'`;

describeServer("a role with time limits for requests", () => {
  it("migrates, watches, unwatches and uninstalls in statements that take longer", async () => {
    const { url, query } = await createOwner(LIMITS);
    // The first migration waits longer than the limits for the lock that another one holds.
    const other = new pg.Client(url.replace(/\/\/[^@]+@/, "//postgres@"));
    await other.connect();
    await other.query("select pg_advisory_lock(1701667443)");
    const migrated = migrate(url);
    await waitFor(
      async () =>
        (
          await query(
            "select from pg_stat_activity where query like '%pg_try_advisory_lock($1::bigint) as mine%' and application_name = 'embedd migrate' and datname = current_database() and now() - backend_start > interval '4 s'",
          )
        ).rowCount === 1,
      { what: "the migration to wait" },
    );
    await other.end();
    expect((await migrated).length).toBeGreaterThan(0);
    await query(SLOW_INDEXES);
    await query(
      "create table docs (id int primary key, body text, embedding vector(384), embedding_model text)",
    );
    await withOwnerClient(url, async (client) => {
      await watch(client, { relation: "docs", content: ["body"], embedding: "embedding" });
      // The session has its own limits again.
      expect((await client.query("show statement_timeout")).rows).toEqual([{ statement_timeout: "2s" }]);
      await unwatch(client, "docs");
      await uninstall(client, { dropColumns: false, dropChunks: true });
    });
  });

  it("builds its vector index", async () => {
    const { url, query } = await createOwner("alter role owner set statement_timeout = '2s'");
    await migrate(url);
    await query(`create table docs (id int primary key, body text, embedding vector(384), embedding_model text);
      insert into docs select i, 'text ' || i from generate_series(1, 20) i`);
    await withOwnerClient(url, (client) =>
      watch(client, { relation: "docs", content: ["body"], embedding: "embedding", index: "hnsw" }),
    );
    await query(SLOW_INDEXES);
    await startTestWorker({ ...db, url }, hashProvider());
    await waitFor(
      async () => (await query("select from embedd.status where vector_index = 'ready'")).rowCount === 1,
      { what: "the index" },
    );
  });
});

describeServer("a vector index that was left unfinished", () => {
  it("is named by status and doctor, with exit codes, and built again by the next worker", async () => {
    const docs = await createWatchedDocs(db, 20);
    await docs.query("update embedd.pipelines set index_method = 'hnsw' where relation = 'docs'::regclass");
    const { rows } = await docs.query<{ name: string }>(
      "select embedd.vector_index_name(id) as name from embedd.pipelines where relation = 'docs'::regclass",
    );
    await docs.query(`create index ${rows[0]?.name ?? ""} on docs using hnsw (embedding vector_cosine_ops);
      update pg_index set indisvalid = false where indexrelid = '${rows[0]?.name ?? ""}'::regclass`);
    const env = { DATABASE_URL: docs.url };
    expect(await spawnCli(["status"], { env }).exited).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(/index {5}failed; build it again with: embedd run --once/) as string,
    });
    expect(await spawnCli(["doctor"], { env }).exited).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(
        /FAIL .*docs\.embedding: the vector index is invalid.*\n +try: embedd run --once/,
      ) as string,
    });
    // While a session holds the lock under which it is built, it is being built.
    const builder = new pg.Client(docs.url);
    await builder.connect();
    await builder.query(
      "select embedd.take_job(id, 'index') from embedd.pipelines where index_method is not null",
    );
    expect(
      (await docs.query("select vector_index from embedd.status where vector_index is not null")).rows,
    ).toEqual([{ vector_index: "building" }]);
    await builder.end();
    expect(await spawnCli(["run", "--once"], { env }).exited).toMatchObject({ code: 0 });
    expect(
      (await docs.query("select vector_index from embedd.status where vector_index is not null")).rows,
    ).toEqual([{ vector_index: "ready" }]);
  });

  it("is built again by the same worker after a failed attempt", async () => {
    const docs = await createWatchedDocs(db, 20);
    await docs.query(`create function refuse() returns event_trigger language plpgsql as $$ begin raise 'not now'; end $$;
      create event trigger refuse on ddl_command_start when tag in ('CREATE INDEX') execute function refuse();
      update embedd.pipelines set index_method = 'hnsw' where relation = 'docs'::regclass`);
    const lines: string[] = [];
    const log = {
      debug() {},
      info() {},
      error() {},
      warn: (_: object, message: string) => lines.push(message),
    };
    await startTestWorker({ ...db, url: docs.url }, hashProvider(), { log, pollIntervalMs: 200 });
    await waitFor(() => lines.includes("could not build the vector index"), { what: "a failed attempt" });
    await docs.query("drop event trigger refuse");
    await waitFor(
      async () => (await docs.query("select from embedd.status where vector_index = 'ready'")).rowCount === 1,
      { what: "the index" },
    );
    // The delays grow: one attempt, and the one after ten seconds.
    expect(lines.filter((line) => line === "could not build the vector index")).toHaveLength(1);
  });
});
