import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import pg from "pg";
import { expect, it, onTestFinished } from "vitest";
import { openListener } from "#embedd/worker/wake/listener.js";
import type { Logger } from "#embedd/logger.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { spawnCli } from "../../../helpers/cli.js";
import { hashProvider } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { createRole, expectVectors } from "../../../helpers/watched-table.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();
/** Notifications. A refresh for each that asks for one would take half an hour. */
const FLOOD = 40_000;
const silent: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

interface SwallowingProxy {
  url: string;
  /** Whether notifications from the server are dropped; everything else passes. */
  swallow: boolean;
}

/** A proxy that reads the server's messages, and drops notifications when it is told to. */
async function startSwallowingProxy(url: string): Promise<SwallowingProxy> {
  const target = new URL(url);
  const proxied = new URL(url);
  const proxy: SwallowingProxy = { url: "", swallow: false };
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(Number(target.port || "5432"), target.hostname);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on("error", () => undefined);
      from.on("close", () => to.destroy());
    }
    client.on("data", (data) => upstream.write(data));
    let buffered = Buffer.alloc(0);
    upstream.on("data", (data: Buffer) => {
      buffered = Buffer.concat([buffered, data]);
      while (buffered.length >= 5 && buffered.length > buffered.readInt32BE(1)) {
        const message = buffered.subarray(0, buffered.readInt32BE(1) + 1);
        buffered = buffered.subarray(message.length);
        if (!proxy.swallow || String.fromCharCode(message[0] ?? 0) !== "A") client.write(message);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  proxied.port = String((server.address() as AddressInfo).port);
  // The proxy reads messages, so they must not be encrypted.
  proxied.searchParams.set("sslmode", "disable");
  proxy.url = proxied.toString();
  return proxy;
}

async function isEmbedded(source: string): Promise<boolean> {
  return (
    (await db.query("select from embedd.chunks where source = $1 and embedding is not null", [source]))
      .rowCount === 1
  );
}

async function embedOne(source: string): Promise<void> {
  await db.query("insert into embedd.chunks (source, content) values ($1, $1)", [source]);
  await waitFor(() => isEmbedded(source), { what: `the vector of ${source}` });
}

describeServer("the listener", () => {
  it("reopens a connection that lives but is deaf, and says so", async () => {
    const proxy = await startSwallowingProxy(db.url);
    const lines: string[] = [];
    const worker = await startTestWorker({ ...db, url: proxy.url }, hashProvider(), {
      listenerProofMs: 500,
      log: {
        ...silent,
        warn: (details, message) => void lines.push(`${message} ${JSON.stringify(details)}`),
      },
    });
    await worker.idle();
    proxy.swallow = true;
    await waitFor(() => lines.some((line) => /listener failed.*deaf/.test(line)), {
      what: "the listener to notice",
    });
    // Written while nothing is heard; the sweep after the reopening finds it.
    await db.query("insert into embedd.chunks (source, content) values ('deaf', 'deaf')");
    proxy.swallow = false;
    await waitFor(() => isEmbedded("deaf"), { what: "the row that nobody heard of" });
    // Its own notifications reach it again, so it has no cause to reopen the connection and sweep.
    const { rows } = await db.query<{ now: Date }>("select clock_timestamp() as now");
    await waitFor(
      async () =>
        (await db.query("select from embedd.workers where heard_at > $1", [rows[0]?.now])).rowCount === 1,
      { what: "the worker to hear" },
    );
    await embedOne("heard again");
  });

  it("reopens a connection whose LISTEN was lost", async () => {
    const heard: string[] = [];
    const listener = await openListener({
      connectionString: db.url,
      applicationName: "embedd listener",
      log: silent,
      onNotification: (payload) => heard.push(payload),
      onReconnect: () => heard.push("reconnected"),
      proofIntervalMs: 200,
    });
    onTestFinished(() => listener.stop());
    await db.query("notify embedd, '1'");
    await waitFor(() => heard.includes("1"), { what: "a notification" });
    expect(listener.heardMsAgo()).toBeLessThan(60_000);
    // Its own pings are not passed on.
    expect(heard).toEqual(["1"]);
    listener.reopen("a test");
    await waitFor(() => heard.includes("reconnected"), { what: "the reconnect" });
    await db.query("notify embedd, '2'");
    await waitFor(() => heard.includes("2"), { what: "a notification" });
  });

  it("keeps listening after its connection is cut again and again", async () => {
    const worker = await startTestWorker(db, hashProvider());
    await worker.idle();
    for (let i = 0; i < 3; i++) {
      await db.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'embedd listener'",
      );
      await embedOne(`cut ${i}`);
    }
  });

  it("endures a flood of notifications that a stranger sends", async () => {
    const { url } = await createRole(db);
    const stranger = new pg.Client({ connectionString: url, application_name: "stranger" });
    await stranger.connect();
    onTestFinished(() => stranger.end());
    await startTestWorker(db, hashProvider());
    const { rows } = await db.query<{ id: number }>("select min(id) as id from embedd.pipelines");
    const before = process.memoryUsage().rss;
    let sent = 0;
    const flood = (async () => {
      while (sent < FLOOD) {
        const started = performance.now();
        // PostgreSQL sends equal payloads of one transaction only once.
        await stranger.query(`do $$ begin
          for i in 1..1000 loop
            perform pg_notify('embedd', case i % 4 when 0 then 'pipelines' when 1 then '${rows[0]?.id ?? 1}'
              else repeat('x', 1000) || i end);
            commit;
          end loop;
        end $$`);
        sent += 1_000;
        await new Promise((resolve) => setTimeout(resolve, Math.max(100 - (performance.now() - started), 0)));
      }
    })();
    for (let i = 0; sent < FLOOD; i++) await embedOne(`flooded ${i}`);
    await flood;
    expect(process.memoryUsage().rss - before).toBeLessThan(150e6);
    // No refresh is queued behind thousands of others.
    const relation = "after_the_flood";
    await db.query(
      `create table ${relation} (id int primary key, body text, embedding vector(384), embedding_model text)`,
    );
    await db.query("select embedd.watch($1, '{body}')", [relation]);
    await db.query(`insert into ${relation} values (1, 'text 1')`);
    await expectVectors(db, relation, { 1: "text 1" });
  });
});

describeServer("a frozen worker", () => {
  it("is not counted as a worker by status", async () => {
    const env = { DATABASE_URL: db.url, EMBEDD_LOG_FORMAT: "json" };
    const worker = spawnCli(["run"], { env });
    await worker.waitForLine(/"ready"/);
    const required = () => spawnCli(["status", "--require-worker"], { env }).exited;
    expect(await required()).toMatchObject({ code: 0, stdout: "1 worker\n" });
    worker.child.kill("SIGSTOP");
    await waitFor(
      async () => (await db.query("select from embedd.workers where state = 'frozen'")).rowCount === 1,
      { what: "the worker to count as frozen" },
    );
    expect(await required()).toMatchObject({ code: 3, stdout: "0 workers, 1 more frozen\n" });
    worker.child.kill("SIGCONT");
    await waitFor(
      async () => (await db.query("select from embedd.workers where state = 'live'")).rowCount === 1,
      { what: "the worker to count again" },
    );
    worker.child.kill("SIGTERM");
    await worker.exited;
    expect(await required()).toMatchObject({ code: 3, stdout: "0 workers\n" });
  });
});
