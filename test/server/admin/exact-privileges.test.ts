import pg from "pg";
import { expect, it, onTestFinished, vi } from "vitest";
import { silentLogger } from "#embedd/logger.js";
import { createWorker } from "#embedd/worker/worker.js";
import { spawnCli } from "../../helpers/cli.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import type { Database } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { WITHOUT_TIMERS } from "../../helpers/worker.js";

const db = useDatabase();

/** PUBLIC loses every right outside of the system's schemas, also on functions that are created later. */
const NOTHING_BY_PUBLIC = `
do $$
declare
  target text;
begin
  for target in
    select quote_ident(nspname) from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'
  loop
    execute format('revoke all on schema %s from public', target);
    execute format('revoke all on all routines in schema %s from public', target);
    execute format('revoke all on all tables in schema %s from public', target);
  end loop;
end $$`;

/** A database as a careful administrator keeps it: pgvector and citext in schemas of their own, nothing by PUBLIC. */
async function hardened(): Promise<Database> {
  const database = await db.createDatabase();
  await database.query(`
    alter default privileges revoke execute on functions from public;
    revoke connect on database ${database.url.split("/").at(-1) ?? ""} from public;
    create schema extensions; create extension vector schema extensions;
    create schema types; create extension citext schema types;
    create schema app;
    create table app.docs (id types.citext primary key, body text,
      embedding extensions.vector(384), embedding_model text);
    create table app.halves (a int, b text, body text, embedding extensions.halfvec(384), embedding_model text,
      primary key (a, b));
    insert into app.docs select 'k' || i, 'row ' || i from generate_series(1, 40) i;
    insert into app.halves select i, 'b', 'row ' || i from generate_series(1, 40) i`);
  await succeed(database.url, "migrate");
  await database.query(NOTHING_BY_PUBLIC);
  return database;
}

const embedd = (url: string, ...args: string[]) => spawnCli(args, { env: { DATABASE_URL: url } }).exited;

async function succeed(url: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await embedd(url, ...args);
  expect(code, `embedd ${args.join(" ")}: ${stdout}${stderr}`).toBe(0);
  return stdout;
}

async function createRole(database: Database, name: string): Promise<{ role: string; url: string }> {
  const role = `${name}_${Math.random().toString(36).slice(2, 10)}`;
  await database.query(`create role ${role} login;
    grant connect on database ${database.url.split("/").at(-1) ?? ""} to ${role}`);
  onTestFinished(async () => {
    await database.query(`drop owned by ${role} cascade; drop role ${role}`);
  });
  const url = new URL(database.url);
  url.username = role;
  return { role, url: url.toString() };
}

const vectors = async ({ query }: Database, table: string, model: string): Promise<number> =>
  (await query(`select from ${table} where embedding is not null and embedding_model = $1`, [model]))
    .rowCount ?? 0;

describeServer("where nothing is granted to PUBLIC", () => {
  it("a worker does all its work with the privileges of embedd grant, and revoking takes exactly them back", async () => {
    const database = await hardened();
    await succeed(database.url, "watch", "app.docs", "--content", "body");
    const { role, url } = await createRole(database, "worker");
    const acls = async () =>
      (
        await database.query(`
          select nspname::text as name, nspacl::text as acl from pg_namespace where nspname !~ '^pg_'
          union all
          select oid::regprocedure::text, proacl::text from pg_proc where pronamespace >= 16384 and proname !~ '^tg_pipeline_'
          order by 1`)
      ).rows;
    const before = await acls();
    expect((await embedd(url, "doctor")).stdout).toMatch(/FAIL {2}role \w+ lacks USAGE on schema embedd/);
    await succeed(database.url, "grant", role);
    // A table that is watched later is granted as well.
    await succeed(database.url, "watch", "app.halves", "--content", "body");

    const doctor = await embedd(url, "doctor");
    expect(doctor.stdout).not.toContain("FAIL");
    const warn = vi.fn();
    const log = { ...silentLogger, warn, error: warn };
    const inner = hashProvider();
    let refused = "row 7";
    const provider = {
      ...inner,
      embed: async (texts: readonly string[]) => {
        const found = await inner.embed(texts);
        return found.map((vector, i) => (texts[i] === refused ? new Float32Array(384) : vector));
      },
    };
    const options = { ...WITHOUT_TIMERS, databaseUrl: url, provider, log, maxAttempts: 1 };
    const worker = await createWorker(options);
    await worker.idle();
    expect(await vectors(database, "app.docs", "hash")).toBe(39);
    expect(await vectors(database, "app.halves", "hash")).toBe(39);

    // A dead row is a reason to look.
    expect(await embedd(url, "status")).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(/pending {3}0/) as string,
    });
    expect(await succeed(url, "failures", "--table", "app.docs")).toContain("key k7  unusable_vector");
    refused = "";
    await succeed(url, "retry", "--table", "app.docs");
    await waitFor(async () => (await vectors(database, "app.docs", "hash")) === 40, {
      what: "the retried row",
    });
    // Reused vectors, edits and new keys.
    await database.query(
      "insert into app.docs values ('new', 'row 1'); update app.docs set body = 'edited' where id = 'k2'",
    );
    await waitFor(async () => (await vectors(database, "app.docs", "hash")) === 41, { what: "the new rows" });
    await database.query("update app.docs set embedding_model = 'old' where id = 'k3'");
    await succeed(url, "reembed", "--table", "app.docs", "--no-wait");
    await waitFor(async () => (await vectors(database, "app.docs", "hash")) === 41, {
      what: "the re-embedded row",
    });
    await worker.stop();

    // The worker's side of a switch: the shadow pipeline gets its own grants.
    const { rows } = await database.query<{ id: number }>(
      "select embedd.begin_switch('app.docs', 'embedding', 'next', 384, null, true) as id",
    );
    const next = await createWorker({ ...options, provider: hashProvider({ model: "next" }) });
    await waitFor(
      async () =>
        (await database.query("select from app.docs where embedding_next is not null")).rowCount === 41,
      { what: "the new model's vectors" },
    );
    await next.stop();
    await database.query("select embedd.finish_switch($1, 0, false, true)", [rows[0]?.id]);
    const after = await createWorker({ ...options, provider: hashProvider({ model: "next" }) });
    await database.query("update app.docs set body = 'after the switch' where id = 'k1'");
    await waitFor(async () => (await vectors(database, "app.docs", "next")) === 41, {
      what: "the row edited after the switch",
    });
    await after.stop();
    // The worker of the next model may take over the other columns, and says so.
    const unexpected = warn.mock.calls.filter((call) => !String(call[1]).includes(" takes over "));
    expect(unexpected).toEqual([]);

    await succeed(database.url, "unwatch", "app.halves");
    await succeed(database.url, "grant", role, "--revoke");
    expect(await acls()).toEqual(before);
    expect((await database.query("select from embedd.shared_grants")).rowCount).toBe(0);
    await database.query("select embedd.unwatch('app.docs')");
  });

  it("searching works with the privileges of a worker", async () => {
    const database = await hardened();
    await succeed(database.url, "watch", "app.docs", "--content", "body");
    const { role, url } = await createRole(database, "worker");
    await succeed(database.url, "grant", role);
    await succeed(url, "run", "--once");
    expect(await succeed(url, "search", "row 3", "--table", "app.docs")).toContain("row 3");
  });
});

describeServer("embedd grant --owner", () => {
  it("lets a table's owner watch and unwatch its own tables, and nobody else's", async () => {
    const database = await hardened();
    const owner = await createRole(database, "owner");
    const other = await createRole(database, "other");
    await database.query(`create schema own authorization ${owner.role};
      grant usage on schema extensions to ${owner.role};
      set role ${owner.role};
      create table own.docs (id int primary key, body text);
      reset role;
      grant usage on schema own, app to ${other.role}`);
    const watch = (url: string, table: string) =>
      embedd(url, "watch", table, "--content", "body", "--create-columns");
    // The hint is what has to be typed.
    await database.query(`grant usage on schema embedd to ${owner.role}; grant execute on all routines in schema embedd to ${owner.role};
      revoke execute on function embedd.watch_for_owner, embedd.unwatch_for_owner from ${owner.role}`);
    const refused = await watch(owner.url, "own.docs");
    expect(refused).toMatchObject({ code: 2 });
    expect(refused.stderr).toContain(`embedd grant --owner ${owner.role}`);

    for (const { role } of [owner, other]) {
      expect(await succeed(database.url, "grant", "--owner", role)).toContain("can now watch its tables");
    }
    expect((await watch(owner.url, "own.docs")).code).toBe(0);
    // The owner may not read the tables of others. That is no problem of its own.
    const status = await succeed(owner.url, "status");
    expect(status).toMatch(/own\.docs\.embedding .*\n {2}pending {3}0\n/);
    expect(status).toMatch(/embedd\.chunks\.embedding .*\n {2}counts {4}no rights to count/);
    expect(status).not.toMatch(/error/);
    // A problem of its own table is one.
    await database.query(
      "alter table own.docs enable row level security; alter table own.docs force row level security",
    );
    expect((await embedd(owner.url, "status")).code).toBe(3);
    await database.query("alter table own.docs disable row level security");
    const foreign = await embedd(other.url, "unwatch", "own.docs");
    expect(foreign).toMatchObject({ code: 2 });
    expect(foreign.stderr).toContain(`role ${other.role} does not own table own.docs`);
    expect((await watch(other.url, "app.docs")).code).toBe(2);

    const client = new pg.Client(other.url);
    await client.connect();
    onTestFinished(() => client.end());
    for (const statement of [
      "update embedd.pipelines set content_columns = '{id}'",
      "delete from embedd.pipelines",
      "select embedd.watch_for_owner('own.docs', '{body}', 'embedding', null, null, null, null, true, 'keep')",
      "select embedd.unwatch_for_owner('own.docs', null, true)",
      "create function embedd.is_served(integer) returns boolean language sql as 'select true'",
    ]) {
      await expect(client.query(statement), statement).rejects.toMatchObject({
        code: expect.stringMatching(/^(42501|EMBDD)$/) as string,
      });
    }
    // The worker gets its grants on a table that its owner watched.
    const worker = await createRole(database, "worker");
    await succeed(database.url, "grant", worker.role);
    await database.query("insert into own.docs (id, body) values (1, 'text')");
    const running = await createWorker({
      ...WITHOUT_TIMERS,
      databaseUrl: worker.url,
      provider: hashProvider(),
    });
    await running.idle();
    await running.stop();
    expect(await vectors(database, "own.docs", "hash")).toBe(1);

    await succeed(owner.url, "unwatch", "own.docs", "--drop-columns");
    await succeed(database.url, "grant", "--revoke", owner.role);
    expect((await watch(owner.url, "own.docs")).code).not.toBe(0);
    await succeed(database.url, "grant", "--revoke", worker.role);
    await succeed(database.url, "grant", "--revoke", other.role);
    const { rows } = await database.query(
      "select has_schema_privilege($1, 'extensions', 'usage') as vector",
      [other.role],
    );
    expect(rows).toEqual([{ vector: false }]);
  });
});
