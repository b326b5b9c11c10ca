import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import pg from "pg";
import { expect, it, onTestFinished } from "vitest";
import { lockFolder } from "#embedd/embedded/directory-lock.js";
import { openEmbedded } from "#embedd/embedded/index.js";
import type { EmbeddedServer } from "#embedd/embedded/index.js";
import { refusesConnections } from "#embedd/embedded/watch-server.js";
import { spawnCli } from "../../helpers/cli.js";
import { temporaryFolder } from "../../helpers/programs.js";
import { waitFor } from "../../helpers/wait.js";

async function query(connectionString: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client(connectionString);
  await client.connect();
  const { rows } = await client.query<Record<string, unknown>>(sql);
  await client.end();
  return rows.map((row) => Object.values(row)[0]);
}

async function open(dataDir: string): Promise<EmbeddedServer> {
  const server = await openEmbedded({ dataDir });
  onTestFinished(() => server.stop());
  return server;
}

const program = `
  import { openEmbedded } from "#embedd/embedded/index.js";
  const server = await openEmbedded({ dataDir: process.argv[1] });
  console.log(JSON.stringify({ owned: server.owned, url: server.connectionString }));
  process.stdin.once("data", () => server.stop().then(() => process.exit(0))).resume();
`;

interface Other {
  child: ReturnType<typeof spawn>;
  owned: boolean;
  url: string;
}

/** Opens the directory in a process of its own. */
async function openElsewhere(dataDir: string): Promise<Other> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", program, "--", dataDir], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  let errors = "";
  child.stdout.on("data", (data) => (output += String(data)));
  child.stderr.on("data", (data) => (errors += String(data)));
  const line = await waitFor(
    () => {
      if (child.exitCode !== null) throw new Error(errors);
      return output.includes("\n") && output;
    },
    { what: "the other process" },
  );
  return { child, ...(JSON.parse(line) as { owned: boolean; url: string }) };
}

it("a data directory keeps its data over a restart, is shared with a second process, and can be stopped twice", async () => {
  const folder = await temporaryFolder();
  const dataDir = join(folder, "new", "data");
  const first = await open(dataDir);
  await query(first.connectionString, "create table kept as select '[1,2]'::vector as v");
  const second = await openEmbedded({ dataDir });
  expect([first.owned, second.owned]).toEqual([true, false]);
  expect(second.connectionString).toBe(first.connectionString);
  const other = await openElsewhere(dataDir);
  expect(other).toMatchObject({ owned: false, url: first.connectionString });
  await second.stop();
  expect(await query(first.connectionString, "select v from kept")).toEqual(["[1,2]"]);
  await Promise.all([first.stop(), first.stop()]);
  expect(await readdir(join(folder, "new"))).toEqual(["data"]);
  const third = await open(dataDir);
  expect(third.owned).toBe(true);
  expect(await query(third.connectionString, "select v from kept")).toEqual(["[1,2]"]);
});

it("a data directory opens after kill -9 during writes, with everything that was committed", async () => {
  const dataDir = join(await temporaryFolder(), "data");
  const { child, url, owned } = await openElsewhere(dataDir);
  expect(owned).toBe(true);
  const client = new pg.Client(url);
  client.on("error", () => undefined);
  await client.connect();
  await client.query("create table written (n int primary key)");
  let committed = 0;
  const writing = (async () => {
    for (let n = 1; ; n++) {
      await client.query("insert into written values ($1)", [n]);
      committed = n;
      if (n === 200) child.kill("SIGKILL");
    }
  })();
  await expect(writing).rejects.toThrow();
  const again = await open(dataDir);
  expect(again.owned).toBe(true);
  const [count] = await query(again.connectionString, "select count(*)::int from written");
  expect(count).toBeGreaterThanOrEqual(committed);
  await query(again.connectionString, "insert into written values (100000)");
});

it("a start while the server stops waits for it, and then serves the directory itself", async () => {
  const dataDir = join(await temporaryFolder(), "data");
  const first = await open(dataDir);
  const client = new pg.Client(first.connectionString);
  client.on("error", () => undefined);
  await client.connect();
  const endless = expect(client.query("select pg_sleep(1000)")).rejects.toThrow();
  const stopping = first.stop();
  await waitFor(() => refusesConnections(Number(new URL(first.connectionString).port)), { what: "the stop" });
  const second = await open(dataDir);
  expect(second.owned).toBe(true);
  expect(await query(second.connectionString, "select 1")).toEqual([1]);
  await Promise.all([endless, stopping]);
});

it("a worker on another process's server ends with it and says so, and its cure serves the directory again", async () => {
  const folder = await temporaryFolder();
  const flags = ["run", "--embedded", "--data-dir", folder];
  const env = { EMBEDD_PROVIDER: "local" };
  const serving = spawnCli(flags, { env });
  await serving.waitForLine(/ready/);
  const sharing = spawnCli(flags, { env });
  await sharing.waitForLine(/ready/);
  serving.child.kill("SIGTERM");
  const { code, stderr } = await sharing.exited;
  expect(stderr).toContain(
    `embedd: the process that served ${folder}/data has ended, and so has its embedded PostgreSQL\n` +
      `  try: embedd ${flags.join(" ")}\n`,
  );
  expect(code).toBe(4);
  await spawnCli(flags, { env }).waitForLine(/ready/);
});

it("a data directory is opened by only one of several processes that start at the same time", async () => {
  const dataDir = join(await temporaryFolder(), "data");
  const all = await Promise.all([openElsewhere(dataDir), openElsewhere(dataDir), openEmbedded({ dataDir })]);
  const ours = all[2];
  onTestFinished(() => ours.stop());
  expect(all.filter((one) => one.owned)).toHaveLength(1);
  expect(new Set([all[0].url, all[1].url, ours.connectionString]).size).toBe(1);
});

it("a folder is never claimed by two processes, in any order", async () => {
  const folder = await temporaryFolder();
  for (let round = 0; round < 20; round++) {
    const locks = await Promise.all(Array.from({ length: 5 }, () => lockFolder(folder)));
    expect(locks.filter(Boolean).length).toBeLessThanOrEqual(1);
    for (const lock of locks) await lock?.release();
  }
  expect(await readdir(folder)).toEqual([]);
});

it("a folder is taken over from a dead process, and from an earlier process with the same pid", async () => {
  const folder = await temporaryFolder();
  const stale = (pid: number, startedAt: string): Promise<void> =>
    writeFile(join(folder, `server-${randomUUID()}.json`), JSON.stringify({ pid, startedAt }), {
      mode: 0o600,
    });
  await stale(2 ** 22 + 1, "no-such-process");
  await stale(process.pid, "this-process-before-its-restart");
  await stale(process.ppid, "another-time");
  const lock = await lockFolder(folder);
  expect(lock).toBeDefined();
  expect(await readdir(folder)).toHaveLength(1);
  await lock?.release();
});

it("a start and a stop keep a project's files, even those with names like embedd's", async () => {
  const folder = await temporaryFolder();
  const files = {
    "server-config.json": '{"pid":4194305,"mine":"state"}',
    "server-1.json": "{}",
    pgpass: "notes",
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  const server = await openEmbedded({ dataDir: join(folder, "data") });
  await server.stop();
  for (const [name, text] of Object.entries(files))
    expect(await readFile(join(folder, name), "utf8"), name).toBe(text);
  expect((await readdir(folder)).sort()).toEqual(["data", ...Object.keys(files)].sort());
});

it("a start on a port in use names the port", async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void other.close());
  const { port } = other.address() as AddressInfo;
  await expect(openEmbedded({ port })).rejects.toMatchObject({
    code: "port_in_use",
    message: `port ${port} on 127.0.0.1 is already in use`,
  });
});
