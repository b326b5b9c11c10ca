import { spawn } from "node:child_process";
import { connect } from "node:net";
import pg from "pg";
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest";
import { openEmbedded } from "#embedd/embedded/index.js";
import type { EmbeddedServer } from "#embedd/embedded/index.js";
import { waitFor } from "../../helpers/wait.js";

let server: EmbeddedServer;
beforeAll(async () => {
  server = await openEmbedded();
});
afterAll(() => server.stop());

async function client(): Promise<pg.Client> {
  const connected = new pg.Client(server.connectionString);
  connected.on("error", () => undefined);
  await connected.connect();
  onTestFinished(() => connected.end());
  return connected;
}

async function one(from: pg.Client, sql: string): Promise<unknown> {
  const { rows } = await from.query<Record<string, unknown>>(sql);
  return Object.values(rows[0] ?? {})[0];
}

/** Runs psql with a script on its standard input. */
async function psql(script: string): Promise<string> {
  const child = spawn("psql", ["-X", "-A", "-t", "-q", server.connectionString]);
  let output = "";
  child.stdout.on("data", (data) => (output += String(data)));
  child.stderr.on("data", (data) => (output += String(data)));
  child.stdin.end(script);
  await new Promise((resolve) => child.once("close", resolve));
  return output;
}

it("the embedded server has pgvector", async () => {
  expect(await one(await client(), "select '[1,2]'::vector <-> '[1,4]'::vector")).toBe(2);
});

it("the embedded server reports its single session, even after a client resets it", async () => {
  const a = await client();
  await a.query("set embedd.single_session = 'off'");
  await a.query("discard all");
  expect(await one(a, "show embedd.single_session")).toBe("on");
  await a.query("set embedd.single_session = 'off'");
  await a.query("reset all");
  expect(await one(a, "show embedd.single_session")).toBe("on");
});

it("the embedded server separates the transactions of its clients", async () => {
  const a = await client();
  const b = await client();
  await a.query("create table apart (who text, n int)");
  const done: string[] = [];
  await a.query("begin");
  await a.query("insert into apart values ('a', 1)");
  const b1 = b.query("begin").then(() => done.push("b begins"));
  const b2 = b.query("insert into apart values ($1, 1)", ["b"]);
  await a.query("insert into apart values ($1, $2)", ["a", 2]);
  expect(await one(a, "select count(*)::int from apart")).toBe(2);
  done.push("a ends");
  await a.query("rollback");
  await Promise.all([b1, b2]);
  await b.query("commit");
  expect(done).toEqual(["a ends", "b begins"]);
  expect((await a.query("select who, n from apart")).rows).toEqual([{ who: "b", n: 1 }]);
});

it("the embedded server separates the queries and prepared statements of concurrent clients", async () => {
  const wrong = await Promise.all(
    Array.from({ length: 8 }, async (_, k) => {
      const c = await client();
      let mixed = 0;
      for (let i = 0; i < 40; i++) {
        const named = await c.query<{ v: number }>({
          name: "same",
          text: `select $1::int + ${k} as v`,
          values: [i],
        });
        const unnamed = await c.query<{ v: number }>(`select $1::int * ${k} as v`, [i]);
        if (named.rows[0]?.v !== i + k || unnamed.rows[0]?.v !== i * k) mixed++;
      }
      return mixed;
    }),
  );
  expect(wrong).toEqual(Array(8).fill(0));
});

it("the embedded server keeps a Parse and a Bind together that arrive separately", async () => {
  // Two clients, each of whose messages is a packet of its own, one after the other.
  const sockets = await Promise.all([rawClient(), rawClient()]);
  const parts = (n: number): Buffer[] => [
    message("P", `\0select ${n}::text as v\0\0\0`),
    message("B", "\0\0\0\0\0\0\0\0"),
    message("E", "\0\0\0\0\0"),
    message("S", ""),
  ];
  const [a, b] = [parts(111), parts(222)];
  for (let i = 0; i < a.length; i++) {
    for (const [socket, part] of [
      [sockets[0], a[i]],
      [sockets[1], b[i]],
    ] as const) {
      if (part) socket.send(part);
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await waitFor(() => sockets.every((s) => s.received().includes("SELECT 1")), { what: "answers" });
  expect(sockets.map((s) => /111|222/.exec(s.received())?.[0])).toEqual(["111", "222"]);
});

it("the embedded server rolls back the transaction of a client that disconnects, and keeps running", async () => {
  const a = await client();
  const b = await client();
  await b.query("create table gone (n int)");
  await a.query("begin");
  await a.query("insert into gone values (1)");
  destroy(a);
  expect(await one(b, "select count(*)::int from gone")).toBe(0);
  await b.query("insert into gone values (2)");
});

it("the embedded server rolls back a client that disconnects while its BEGIN is on the way", async () => {
  const b = await client();
  for (let i = 0; i < 20; i++) {
    const raw = await rawClient();
    raw.send(message("Q", "begin\0"));
    if (i % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
    raw.socket.resetAndDestroy();
    expect(await one(b, "select 1")).toBe(1);
  }
});

it("the embedded server frees the session when a batch is cut off before its Sync", async () => {
  const raw = await rawClient();
  raw.send(
    Buffer.concat([
      message("P", "\0begin\0\0\0"),
      message("B", "\0\0\0\0\0\0\0\0"),
      message("E", "\0\0\0\0\0"),
      message("H", ""),
    ]),
  );
  await waitFor(() => raw.received().includes("BEGIN"), { what: "BEGIN" });
  raw.socket.destroy();
  expect(await one(await client(), "select 1")).toBe(1);
});

it("the embedded server survives garbage and reset connections", async () => {
  for (const garbage of [
    "GET / HTTP/1.1\r\n\r\n",
    "\0\0\0\x08\x04\xd2\x16\x2f",
    "\0\0\0\x09\0\x03\0\0\0",
    "X\0\0\0\x04",
  ]) {
    const socket = connect(Number(new URL(server.connectionString).port), "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write(Buffer.from(garbage, "latin1"), () => socket.resetAndDestroy());
    await new Promise((resolve) => socket.once("close", resolve));
  }
  expect(await one(await client(), "select 1")).toBe(1);
});

it("the embedded server delivers every notification, even after DISCARD ALL of another client", async () => {
  const heard: string[] = [];
  const ears = await client();
  ears.on("notification", ({ channel, payload }) => heard.push(`${channel}: ${payload ?? ""}`));
  await ears.query("listen embedd");
  const a = await client();
  await a.query("discard all");
  await a.query("begin");
  await a.query("notify embedd, 'rolled back'");
  await a.query("rollback");
  await a.query("unlisten *");
  await a.query("select pg_notify($1, $2)", ["embedd", "x".repeat(7_000)]);
  await psql("notify embedd, 'from psql'");
  await waitFor(() => heard.length > 1, { what: "both notifications" });
  expect(heard).toEqual([`embedd: ${"x".repeat(7_000)}`, "embedd: from psql"]);
});

it("the embedded server delivers notifications only to clients that listen", async () => {
  const [listening, deaf, notifier] = [await client(), await client(), await client()];
  const heard: string[] = [];
  listening.on("notification", ({ payload }) => heard.push(`listening: ${payload}`));
  deaf.on("notification", ({ payload }) => heard.push(`deaf: ${payload}`));
  await listening.query("listen embedd");
  await notifier.query("notify embedd, 'hello'");
  await deaf.query("select 1");
  await waitFor(() => heard.length > 0, { what: "the notification" });
  expect(heard).toEqual(["listening: hello"]);
});

it("psql can connect, COPY in both directions, and continue after an error", async () => {
  const output = await psql(`create table copied (n int, t text);
copy copied from stdin;
1\tone
2\ttwo
\\.
copy copied from stdin (delimiter '|');
3|th,ree
\\.
copy copied from stdin;
no number\tx
\\.
copy (select * from copied order by n) to stdout;
select count(*) from copied;
`);
  expect(output).toContain("invalid input syntax");
  expect(output).toContain("1\tone\n2\ttwo\n3\tth,ree\n");
  expect(output.trim().split("\n").at(-1)).toBe("3");
});

it("the embedded server refuses a COPY without data, which would end PGlite", async () => {
  const a = await client();
  await a.query("create table nothing (n int)");
  await expect(
    a.query({ text: "copy nothing from stdin", values: [], queryMode: "extended" } as never),
  ).rejects.toThrow("COPY from stdin failed");
  expect(await one(a, "select 1")).toBe(1);
});

interface RawClient {
  socket: ReturnType<typeof connect>;
  send(bytes: Buffer): void;
  received(): string;
}

function message(type: string, body: string): Buffer {
  const bytes = Buffer.concat([Buffer.from(`${type}\0\0\0\0`), Buffer.from(body)]);
  bytes.writeInt32BE(bytes.length - 1, 1);
  return bytes;
}

/** A client that can send any message at any time, after the usual start-up. */
async function rawClient(): Promise<RawClient> {
  const socket = connect(Number(new URL(server.connectionString).port), "127.0.0.1").setNoDelay(true);
  socket.on("error", () => undefined);
  onTestFinished(() => void socket.destroy());
  let received = "";
  socket.on("data", (data) => (received += data.toString("latin1")));
  const startup = Buffer.from("\0\0\0\0\0\x03\0\0user\0postgres\0database\0postgres\0\0");
  startup.writeInt32BE(startup.length, 0);
  socket.write(startup);
  socket.write(message("p", `${new URL(server.connectionString).password}\0`));
  await waitFor(() => received.includes("Z\0\0\0\x05"), { what: "the start" });
  return { socket, send: (bytes) => void socket.write(bytes), received: () => received };
}

function destroy(target: pg.Client): void {
  (target as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
}
