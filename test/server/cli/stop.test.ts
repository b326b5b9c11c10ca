import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import pg from "pg";
import { expect, it, onTestFinished } from "vitest";
import { KEY, createWatchedDocs, startScriptedApi } from "../../helpers/api-cli.js";
import { spawnCli } from "../../helpers/cli.js";
import type { CliProcess } from "../../helpers/cli.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import type { Database } from "../../helpers/database.js";
import { waitFor } from "../../helpers/wait.js";

const db = useDatabase();

const SHUTDOWN_MS = 2_000;
/** A busy machine takes this long to handle a signal and end a process. What the commands wait for never comes. */
const BUSY_MS = 45_000;

/** A server that accepts connections and never says a word. */
async function startSilentServer(): Promise<{ port: number; connections: () => number }> {
  let connections = 0;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    connections++;
    sockets.add(socket);
    socket.on("error", () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return { port: (server.address() as AddressInfo).port, connections: () => connections };
}

/** Holds locks in an open transaction until the test ends. */
async function hold(database: Database, sql: string): Promise<void> {
  const client = new pg.Client(database.url);
  await client.connect();
  onTestFinished(() => client.end());
  await client.query(`begin; ${sql}`);
}

/** Statements of embedd that are running, or wait for a lock. */
async function running(database: Database): Promise<string[]> {
  const { rows } = await database.query<{ query: string }>(
    `select query from pg_stat_activity
     where datname = current_database() and application_name like 'embedd%' and application_name not like 'embedd-test%'
       and state = 'active' and query not like '%pg_stat_activity%'`,
  );
  return rows.map(({ query }) => query);
}

const untilLocked = (database: Database): Promise<unknown> =>
  waitFor(
    async () =>
      (
        await database.query(
          // The migration asks for its lock again and again.
          "select from pg_stat_activity where (wait_event_type = 'Lock' or query like '%pg_try_advisory_lock($1::bigint) as mine%' and pid <> pg_backend_pid()) and application_name like 'embedd%' and datname = current_database()",
        )
      ).rowCount !== 0,
    { what: "a command that waits for a lock" },
  );

async function expectStop(
  command: CliProcess,
  code: number,
  { signal = "SIGTERM", shutdownMs = SHUTDOWN_MS }: { signal?: NodeJS.Signals; shutdownMs?: number } = {},
): Promise<void> {
  const started = performance.now();
  command.child.kill(signal);
  expect(await command.exited, command.stderr).toMatchObject({ code, signal: null });
  expect(performance.now() - started).toBeLessThan(shutdownMs + BUSY_MS);
}

const environment = (database: { url: string }): Record<string, string> => ({
  DATABASE_URL: database.url,
  EMBEDD_SHUTDOWN_MS: String(SHUTDOWN_MS),
  EMBEDD_LOG_FORMAT: "json",
});

/** Arguments, and the exit code after a signal. */
const COMMANDS: [string[], number][] = [
  [["migrate"], 1],
  [["watch", "docs", "--content", "body"], 1],
  [["unwatch", "docs"], 1],
  [["grant", "somebody"], 1],
  [["run"], 0],
  [["run", "--once"], 1],
  [["run", "--once", "--wait"], 1],
  [["status"], 1],
  [["pause", "docs"], 1],
  [["resume", "docs"], 1],
  [["search", "text"], 1],
  [["estimate"], 1],
  [["failures"], 1],
  [["retry"], 1],
  [["reembed"], 1],
  [["switch-model", "docs", "--model", "m", "--dimensions", "3"], 1],
  [["switch-model", "--status"], 1],
  [["doctor"], 1],
  [["uninstall"], 1],
];

describeServer("a signal ends within EMBEDD_SHUTDOWN_MS", () => {
  it.each(COMMANDS)(
    "embedd %j that connects to a server without an answer (exit code %i)",
    async (args, code) => {
      const silent = await startSilentServer();
      const command = spawnCli(args, {
        env: { ...environment({ url: `postgres://nobody@127.0.0.1:${silent.port}/nothing` }) },
      });
      await waitFor(() => silent.connections() > 0, { what: "a connection" });
      await expectStop(command, code);
    },
  );

  it.each<[string[], string, number]>([
    [["migrate"], "select pg_advisory_lock(1701667443)", 1],
    [["watch", "docs", "--content", "body", "--embedding", "other"], "lock table docs", 1],
    [["unwatch", "docs"], "lock table docs", 1],
    [["run"], "lock table embedd.pipelines", 0],
    [["run", "--once"], "lock table embedd.pipelines", 1],
    [["run", "--once"], "lock table docs", 1],
    [["run", "--once", "--wait"], "lock table embedd.leases", 1],
    [["run"], "lock table embedd.leases", 0],
    [["status"], "lock table docs", 1],
    [["pause", "docs"], "lock table embedd.pipelines", 1],
    [["search", "text", "--table", "docs"], "lock table docs", 1],
    [["estimate", "--table", "docs"], "lock table docs", 1],
    [["failures"], "lock table embedd.failures", 1],
    [["retry"], "lock table embedd.failures", 1],
    [["reembed"], "lock table docs", 1],
    [["switch-model", "docs", "--model", "m", "--dimensions", "3"], "lock table docs", 1],
    [["switch-model", "--status"], "lock table embedd.pipelines", 1],
    [["doctor"], "lock table embedd.pipelines", 1],
    [["uninstall"], "lock table docs", 1],
  ])("embedd %j that waits for a lock: %s (exit code %i)", async (args, lock, code) => {
    const docs = await createWatchedDocs(db, 3);
    await docs.query(
      "alter table docs add other vector(3), add other_model text; update embedd.pipelines set served_model = 'old'",
    );
    await hold(docs, lock);
    const command = spawnCli(args, { env: environment(docs) });
    await untilLocked(docs);
    await expectStop(command, code);
    // Nothing is left in the lock's queue, where it would stop the applications' queries too.
    await waitFor(async () => (await running(docs)).length === 0, { what: "its statement to end" });
  });

  it.each<[string[], number]>([
    [["run"], 0],
    [["run", "--once"], 1],
    [["search", "text", "--table", "docs"], 1],
    [["estimate", "--table", "docs"], 1],
    [["doctor"], 1],
  ])("embedd %j that asks a provider without an answer (exit code %i)", async (args, code) => {
    const docs = await createWatchedDocs(db, 3);
    const silent = await startSilentServer();
    // A worker waits for the provider until shortly before the deadline, and must have the time to release its leases.
    const shutdownMs = args[0] === "run" ? 24_000 : SHUTDOWN_MS;
    const command = spawnCli(args, {
      env: {
        ...environment(docs),
        EMBEDD_PROVIDER: "openai",
        OPENAI_API_KEY: KEY,
        EMBEDD_BASE_URL: `http://127.0.0.1:${silent.port}`,
        EMBEDD_SHUTDOWN_MS: String(shutdownMs),
      },
    });
    await waitFor(() => silent.connections() > 0, { what: "a request" });
    await expectStop(command, code, { signal: "SIGINT", shutdownMs });
    expect((await docs.query("select from embedd.leases")).rowCount).toBe(0);
  });

  it("embedd search while it loads the model", async () => {
    const docs = await createWatchedDocs(db, 3);
    const command = spawnCli(["search", "text", "--table", "docs"], { env: environment(docs) });
    await waitFor(
      async () =>
        (
          await docs.query(
            "select from pg_stat_activity where application_name = 'embedd' and state = 'idle' and datname = current_database()",
          )
        ).rowCount !== 0,
      { what: "its first query", intervalMs: 5 },
    );
    await expectStop(command, 1);
  });

  it.each<[string[], number]>([
    [["run"], 0],
    [["run", "--once", "--wait"], 1],
  ])("embedd %j that backs off from a database that refuses it (exit code %i)", async (args, code) => {
    const docs = await createWatchedDocs(db, 3);
    await docs.query(`create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
      create trigger refuse before insert on embedd.leases for each statement execute function refuse()`);
    const command = spawnCli(args, { env: environment(docs) });
    await command.waitForLine(/the database failed, trying again/);
    await expectStop(command, code);
  });

  it("embedd switch-model that waits for a worker", async () => {
    const docs = await createWatchedDocs(db, 3);
    await docs.query(
      "update embedd.pipelines set served_model = 'old'; update docs set embedding = array_fill(1, array[384])::vector",
    );
    const args = ["switch-model", "docs", "--model", "m", "--dimensions", "3", "--max-behind", "0"];
    const command = spawnCli(args, { env: environment(docs) });
    await command.waitForLine(/no worker of m is connected/);
    await expectStop(command, 1);
    expect(command.stderr).toMatch(/stopped; run the same command to resume/);
  });

  it("embedd run that is still starting, and says that it stops instead of blaming the database", async () => {
    const docs = await createWatchedDocs(db, 3);
    await hold(docs, "lock table embedd.pipelines");
    const command = spawnCli(["run"], { env: environment(docs) });
    await untilLocked(docs);
    await expectStop(command, 0);
    expect(command.stderr).toMatch(/"signal":"SIGTERM","msg":"stopping"/);
    expect(command.stderr).not.toMatch(/failed/);
  });

  it("at once at a second signal", async () => {
    const docs = await createWatchedDocs(db, 3);
    await hold(docs, "lock table embedd.leases");
    const command = spawnCli(["run"], { env: { ...environment(docs), EMBEDD_SHUTDOWN_MS: "60000" } });
    await command.waitForLine(/"ready"/);
    await untilLocked(docs);
    command.child.kill("SIGTERM");
    await command.waitForLine(/"stopping"/);
    command.child.kill("SIGTERM");
    expect(await command.exited).toMatchObject({ code: 1 });
  });
});

describeServer("embedd run --once", () => {
  it.each([
    [
      "the database refuses its writes",
      "alter database %I set default_transaction_read_only = on",
      /read-only transaction/,
    ],
  ])("ends with 1 and the cause if %s", async (_, sql, cause) => {
    const docs = await createWatchedDocs(db, 3);
    const { rows } = await docs.query<{ sql: string }>("select format($1::text, current_database()) as sql", [
      sql,
    ]);
    await docs.query(rows[0]?.sql ?? "");
    const once = await spawnCli(["run", "--once"], { env: environment(docs) }).exited;
    expect(once.stderr).toMatch(cause);
    expect(once.code).toBe(1);
  });

  it("ends with 1 and the cause if claims are refused; --wait keeps trying", async () => {
    const docs = await createWatchedDocs(db, 3);
    await docs.query(`create function refuse() returns trigger language plpgsql as $$ begin raise 'no leases today'; end $$;
      create trigger refuse before insert on embedd.leases for each statement execute function refuse()`);
    const once = await spawnCli(["run", "--once"], { env: environment(docs) }).exited;
    expect(once).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /rows of \S*docs cannot be embedded now\n(?:.*\n)?embedd: no leases today/,
      ) as string,
    });
    const waits = spawnCli(["run", "--once", "--wait"], { env: environment(docs) });
    await waits.waitForLine(/"code":"P0001".*trying again/);
    await docs.query("drop trigger refuse on embedd.leases");
    expect(await waits.exited).toMatchObject({ code: 0 });
  });

  it("ends with 1 and the cause if the provider is down", async () => {
    const docs = await createWatchedDocs(db, 3);
    const server = await startScriptedApi({ script: () => ({ status: 503, body: "down" }) });
    const once = await spawnCli(["run", "--once"], {
      env: {
        ...environment(docs),
        EMBEDD_PROVIDER: "openai",
        OPENAI_API_KEY: KEY,
        EMBEDD_BASE_URL: server.url,
      },
    }).exited;
    expect(once).toMatchObject({ code: 1, stderr: expect.stringMatching(/answered 503/) as string });
  });

  it("ends with 3 if a trigger of the table discards every vector", async () => {
    const docs = await createWatchedDocs(db, 3);
    await docs.query(`create function discard() returns trigger language plpgsql as $$ begin return null; end $$;
      create trigger a_discard before update on docs for each row execute function discard()`);
    const once = await spawnCli(["run", "--once"], { env: environment(docs) }).exited;
    expect(once).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/^3 rows could not be written: .*a trigger discards/m) as string,
    });
  });

  it("ends although a transaction that has written stays open", async () => {
    const docs = await createWatchedDocs(db, 3);
    await hold(docs, "insert into docs values (100, 'not yet')");
    expect(await spawnCli(["run", "--once"], { env: environment(docs) }).exited).toMatchObject({ code: 0 });
  });
});

describeServer("a start that fails half way ends with an exit code", () => {
  it.each<[string[], number]>([
    [["run", "--once"], 4],
    [["doctor"], 3],
    [["status"], 0],
  ])("embedd %j, if its role may open one connection (exit code %i)", async (args, code) => {
    const docs = await createWatchedDocs(db, 3);
    const { url } = await limitedRole(docs, 1);
    const command = await spawnCli(args, { env: environment({ url }) }).exited;
    expect(command.code, command.stderr).toBe(code);
  });

  it("embedd run, if its role may open one connection, says so and retries until it may open more", async () => {
    const docs = await createWatchedDocs(db, 3);
    const { role, url } = await limitedRole(docs, 1);
    const command = spawnCli(["run"], { env: environment({ url }) });
    await command.waitForLine(/refuses connections, trying again; a worker needs 3 connections/);
    await docs.query(`alter role ${role} connection limit 3`);
    await command.waitForLine(/"ready"/);
    await expectStop(command, 0);
  });
});

async function limitedRole(database: Database, connections: number): Promise<{ role: string; url: string }> {
  const role = `embedd_test_${Math.random().toString(36).slice(2, 12)}`;
  await database.query(`create role ${role} login connection limit ${connections}`);
  onTestFinished(async () => {
    await database.query(`drop owned by ${role}; drop role ${role}`).catch(() => undefined);
  });
  await database.query("select embedd.grant_worker($1)", [role]);
  const url = new URL(database.url);
  url.username = role;
  return { role, url: url.toString() };
}

describeServer("a role with three connections", () => {
  it("embeds a backlog with run --once, and with run until it is stopped", async () => {
    const docs = await createWatchedDocs(db, 300);
    const { url } = await limitedRole(docs, 3);
    const once = await spawnCli(["run", "--once"], { env: environment({ url }) }).exited;
    expect(once).toMatchObject({ code: 0, stdout: expect.stringMatching(/^300 rows/) as string });
    expect(once.stderr).not.toMatch(/too many connections/);
    const daemon = spawnCli(["run"], { env: environment({ url }) });
    await daemon.waitForLine(/"ready"/);
    await docs.query("update docs set body = body || ' edited'");
    await waitFor(async () => (await docs.query("select from docs where embedding is null")).rowCount === 0, {
      what: "the vectors",
    });
    await expectStop(daemon, 0);
    expect(daemon.stderr).not.toMatch(/too many connections/);
    expect((await docs.query("select from embedd.leases")).rowCount).toBe(0);
  });
});
