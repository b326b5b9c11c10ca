import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { openEmbedded } from "#embedd/embedded/index.js";
import type { EmbeddedServer } from "#embedd/embedded/index.js";
import { makeFolder } from "#embedd/embedded/private-folder.js";
import { STARTUP, clientMessage, passwordMessage } from "../helpers/client-messages.js";
import { spawnCli } from "../helpers/cli.js";
import { waitFor } from "../helpers/wait.js";

const run = promisify(execFile);

/** Attacks by another user need root, which can become one; Windows has no such users. */
const asRoot = process.getuid?.() === 0;
const itAsRoot = asRoot ? it : it.skip;
const NEEDS_ROOT = asRoot ? "" : " [needs root, to act as a second user]";
const NOBODY = 65_534;

let folder: string;
let server: EmbeddedServer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "embedd-test-"));
  await chmod(folder, 0o755);
  // As an umask leaves it that protects nothing.
  const umask = process.umask(0);
  server = await openEmbedded({ dataDir: join(folder, "own", "data") });
  process.umask(umask);
});
afterAll(async () => {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

const port = (): number => Number(new URL(server.connectionString).port);

async function newFolder(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), "embedd-test-"));
  onTestFinished(() => rm(made, { recursive: true, force: true }));
  return made;
}

async function client(url = server.connectionString): Promise<pg.Client> {
  const connected = new pg.Client(url);
  connected.on("error", () => undefined);
  onTestFinished(() => connected.end());
  await connected.connect();
  return connected;
}

/** Fails unless a client that keeps the protocol gets its answer. */
async function expectAnswer(): Promise<void> {
  const one = await client();
  expect((await one.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
}

const asNobody = (...command: string[]): Promise<{ stdout: string }> =>
  run("runuser", ["-u", "nobody", "--", ...command], { cwd: "/", env: { PATH: process.env["PATH"] } });

describe("another user of the machine", () => {
  it("may not open a file of embedded PostgreSQL, even with umask 0", async () => {
    expect((await stat(join(folder, "own"))).mode & 0o077).toBe(0);
    expect((await stat(join(folder, "own", "data"))).mode & 0o077).toBe(0);
    for (const name of await readdir(join(folder, "own"))) {
      expect([name, (await stat(join(folder, "own", name))).mode & 0o077]).toEqual([name, 0]);
    }
  });

  itAsRoot(`reads neither data nor password${NEEDS_ROOT}`, async () => {
    for (const name of ["data/PG_VERSION", "embedd.pgpass"]) {
      await expect(asNobody("cat", join(folder, "own", name))).rejects.toThrow("Permission denied");
    }
  });

  itAsRoot(`cannot connect, and a command of the owner can${NEEDS_ROOT}`, async () => {
    const address = `postgres://postgres@127.0.0.1:${port()}/postgres`;
    const query = ["psql", "-X", "-A", "-t", "-w", "-c", "select 'inside'"];
    await expect(asNobody(...query, address)).rejects.toThrow(/password/);
    await expect(asNobody(...query, server.shownAddress)).rejects.toThrow(/password/);
    const [psql = "", ...rest] = query;
    expect((await run(psql, [...rest, server.shownAddress])).stdout).toBe("inside\n");
  });

  itAsRoot(`cannot offer a folder of his own as the database's${NEEDS_ROOT}`, async () => {
    for (const theirs of ["folder", "data"]) {
      const around = await newFolder();
      const target = join(around, theirs === "folder" ? "of-nobody" : "ours");
      await mkdir(join(target, "data"), { recursive: true });
      await chown(theirs === "folder" ? target : join(target, "data"), NOBODY, NOBODY);
      await expect(openEmbedded({ dataDir: join(target, "data") })).rejects.toMatchObject({
        code: "embedded_start",
        message: expect.stringMatching(/belongs to another user/) as string,
        hint: expect.stringMatching(/^export EMBEDD_DATA_DIR=/) as string,
      });
    }
  });

  itAsRoot(
    `cannot exchange the database in a folder that root has opened to everybody${NEEDS_ROOT}`,
    async () => {
      const around = await newFolder();
      await chmod(around, 0o755);
      const shared = join(around, "shared");
      await mkdir(shared);
      const program = `
      import { makeFolder } from "#embedd/embedded/private-folder.js";
      await makeFolder(process.argv[1]).then(() => console.log("used"), ({ code, message, hint }) => console.log(code, message, hint));
    `;
      const useAsNobody = async (): Promise<string> => {
        const args = ["--input-type=module", "-e", program, "--", shared];
        return (await run(process.execPath, args, { uid: NOBODY, gid: NOBODY })).stdout;
      };
      await chmod(shared, 0o777);
      const cure = `chmod +t ${shared}`;
      expect(await useAsNobody()).toContain(
        `embedded_start ${shared} is open to every user, who could exchange the database in it sudo ${cure}  #`,
      );
      await run("sh", ["-c", cure]);
      expect(await useAsNobody()).toBe("used\n");
      // As the root of a mounted volume.
      await chmod(shared, 0o775);
      expect(await useAsNobody()).toBe("used\n");
    },
  );

  it("cannot send a command to a server of his own by a planted claim file", async () => {
    for (const plant of [
      (path: string, text: string) => writeFile(path, text).then(() => chmod(path, 0o666)),
      ...(asRoot
        ? [(path: string, text: string) => writeFile(path, text).then(() => chown(path, NOBODY, NOBODY))]
        : []),
      (path: string) => mkdir(path),
      (path: string) => symlink("/dev/zero", path),
      (path: string) => writeFile(path, "[1, 2", { mode: 0o600 }),
      (path: string) => writeFile(path, '{"pid": "x"}', { mode: 0o600 }),
    ]) {
      const around = await newFolder();
      const path = join(around, "server-01234567-89ab-cdef-0123-456789abcdef.json");
      // Of a living process: ours.
      const pid = process.ppid;
      await plant(path, JSON.stringify({ pid, port: port(), access: { port: port(), password: "x" } }));
      await expect(openEmbedded({ dataDir: join(around, "data") })).rejects.toMatchObject({
        code: "embedded_start",
        message: expect.stringMatching(/cannot be trusted: .*server-01234567.*\.json/) as string,
        hint: `rm -f ${path}`,
      });
    }
  });

  it("is kept out of an older folder that was open to everybody", async () => {
    const around = await newFolder();
    const first = await openEmbedded({ dataDir: join(around, "data") });
    await first.stop();
    await chmod(join(around, "data"), 0o755);
    await chmod(around, 0o777);
    const again = await openEmbedded({ dataDir: join(around, "data") });
    onTestFinished(() => again.stop());
    expect((await stat(join(around, "data"))).mode & 0o077).toBe(0);
    expect((await stat(around)).mode & 0o777).toBe(0o755);
  });

  it("keeps his rights to read in a folder that holds more than the database", async () => {
    const around = await newFolder();
    await chmod(around, 0o755);
    await makeFolder(around);
    expect((await stat(around)).mode & 0o777).toBe(0o755);
  });
});

it("what has the database's name and is none is refused and left as it is", async () => {
  const around = await newFolder();
  const own = join(around, "own");
  await mkdir(own);
  await writeFile(join(own, "table.csv"), "");
  await chmod(own, 0o755);
  const dataDir = join(around, "data");
  const here = { dataDir };
  await symlink("own", dataDir);
  const hint = `mv ${dataDir} ${dataDir}.link`;
  await expect(openEmbedded(here)).rejects.toMatchObject({
    code: "embedded_start",
    message: expect.stringContaining(`${dataDir} is a symbolic link.`) as string,
    hint: expect.stringContaining(`${hint}\n`) as string,
  });
  expect((await stat(own)).mode & 0o777).toBe(0o755);
  await run("sh", ["-c", hint]);
  await rename(own, dataDir);
  await expect(openEmbedded(here)).rejects.toMatchObject({
    code: "embedded_start",
    message: `${dataDir} holds files that are not a database`,
  });
  expect((await stat(dataDir)).mode & 0o777).toBe(0o755);
  const file = join(dataDir, "table.csv");
  const mode = (await stat(file)).mode;
  for (const inTheWay of [file, join(file, "data")]) {
    await expect(openEmbedded({ dataDir: inTheWay })).rejects.toMatchObject({
      code: "embedded_start",
      message: `${file} is not a folder`,
    });
  }
  expect((await stat(file)).mode).toBe(mode);
  expect(await readdir(dataDir)).toEqual(["table.csv"]);
});

/** A connection that has sent these bytes; `ended` resolves when the server has closed it. */
function send(...parts: Buffer[]): { socket: Socket; ended: Promise<void>; received: () => string } {
  const socket = connect(port(), "127.0.0.1");
  let received = "";
  socket.on("data", (data) => (received += data.toString("latin1")));
  socket.on("error", () => undefined);
  onTestFinished(() => void socket.destroy());
  const ended = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  for (const part of parts) socket.write(part);
  return { socket, ended, received: () => received };
}

const password = (): Buffer => passwordMessage(server.connectionString);

describe("a connection that does not keep the protocol", () => {
  it("is closed at a wrong length, before and after the password, and others are served", async () => {
    for (const length of [-(2 ** 31), -5, -1, 0, 3, 2 ** 31 - 1]) {
      for (const opening of [
        [clientMessage("", length, "\0\x03\0\0")],
        [STARTUP, clientMessage("p", length, "x")],
        ...(length === 2 ** 31 - 1 || length < 4
          ? [[STARTUP, password(), clientMessage("Q", length, "x")]]
          : []),
        [STARTUP, password(), clientMessage("S", length === 3 ? 20_000 : length)],
      ]) {
        await send(...opening).ended;
      }
    }
    await expectAnswer();
  });

  it("is closed for a message that there is not, or that comes too early", async () => {
    for (const opening of [
      [STARTUP, clientMessage("Q", 13, "select 1\0")],
      [STARTUP, password(), clientMessage("\xff", 4)],
      [STARTUP, password(), password()],
      [clientMessage("", 41, "\0\x03\0\x07user\0postgres\0database\0postgres\0\0")],
      [clientMessage("", 9, "\0\x03\0\0u")],
      [clientMessage("", 26, "\0\x03\0\0replication\0true\0\0")],
    ]) {
      const { ended, received } = send(...opening);
      await ended;
      expect(received()).toContain("FATAL");
    }
    await expectAnswer();
  });

  it("cannot keep a client out, however many there are that say nothing", async () => {
    const silent = Array.from({ length: 300 }, () => send());
    await Promise.all(silent.slice(0, 150).map(({ ended }) => ended));
    await expectAnswer();
  });

  it("is closed if it does not say the password in time, however slowly it speaks", async () => {
    // The header of the password message, but for its last byte.
    const { socket, ended } = send(STARTUP);
    const header = [...clientMessage("p", 9_000).subarray(0, 4)];
    const drip = setInterval(() => {
      const [next] = header.splice(0, 1);
      if (next !== undefined) socket.write(Uint8Array.of(next));
    }, 1_000);
    onTestFinished(() => {
      clearInterval(drip);
    });
    await ended;
    await expectAnswer();
  });

  it("gets nothing for a wrong password", async () => {
    for (const text of ["", "postgres", "x".repeat(9_000)]) {
      const { ended, received } = send(STARTUP, clientMessage("p", 5 + text.length, `${text}\0`));
      await ended;
      expect(received()).toContain("28P01");
      expect(received()).not.toContain("Z\0\0\0\x05");
    }
  });
});

it("a program, or a file of the machine, is out of reach of SQL, and asking for it gets an error", async () => {
  const one = await client();
  await one.query("create temp table taken (line text)");
  for (const sql of [
    "copy (select 1) to program 'touch /tmp/embedd-was-here'",
    "copy taken from program 'id'",
    "do $$ begin execute 'copy (select 1) to program ''cat'''; end $$",
  ]) {
    await expect(one.query(sql), sql).rejects.toThrow("could not execute command");
    await expectAnswer();
  }
  for (const sql of ["copy taken from '/etc/passwd'", "select lo_import('/etc/passwd')"]) {
    await expect(one.query(sql), sql).rejects.toThrow("No such file");
  }
  const outside = join(await newFolder(), "written");
  await expect(one.query(`copy (select 1) to '${outside}'`)).rejects.toThrow("No such file");
});

it("a command with embedded PostgreSQL ends at SIGTERM during a statement without an end, and keeps what was committed, and no password", async () => {
  const dataDir = await newFolder();
  const flags = ["run", "--embedded", "--data-dir", dataDir];
  const env = { EMBEDD_PROVIDER: "local" };
  const cli = spawnCli(flags, { env });
  await cli.waitForLine(/ready/);
  const { connectionString } = await openEmbedded({ dataDir: join(dataDir, "data") });
  expect(cli.stderr + cli.stdout).not.toContain(new URL(connectionString).password);
  const one = await client(connectionString);
  await one.query("create table kept as select 7 as n");
  const endless = one.query("select count(*) from generate_series(1, 1e12)");
  endless.catch(() => undefined);
  // The server has read the statement when it answers a connection that came later.
  const later = connect(Number(new URL(connectionString).port), "127.0.0.1");
  onTestFinished(() => void later.destroy());
  later.write(STARTUP);
  await once(later, "data");
  cli.child.kill("SIGTERM");
  expect(await cli.exited).toMatchObject({ code: 0 });
  expect(await readdir(dataDir)).toEqual(["data"]);
  const again = await openEmbedded({ dataDir: join(dataDir, "data") });
  onTestFinished(() => again.stop());
  expect(again.owned).toBe(true);
  const after = await client(again.connectionString);
  expect((await after.query("select n from kept")).rows).toEqual([{ n: 7 }]);
});

it("a demo that is interrupted leaves no password", async () => {
  const TMPDIR = await newFolder();
  const cli = spawnCli(["demo"], { env: { EMBEDD_PROVIDER: "local", TMPDIR } });
  await cli.waitForLine(/connect from another terminal/);
  expect(await readdir(TMPDIR)).not.toEqual([]);
  cli.child.kill("SIGINT");
  await cli.exited;
  expect(await readdir(TMPDIR)).toEqual([]);
});

it("no process list shows the password of a command that uses embedded PostgreSQL", async () => {
  const child = spawn("psql", ["-X", "-A", "-t", server.shownAddress], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  child.stdout.on("data", (data) => (output += String(data)));
  child.stdin.write("select 'inside';\n");
  await waitFor(() => output.includes("inside"), { what: "psql's answer" });
  const { stdout } = await run("ps", ["-e", "-o", "args"], { maxBuffer: 2 ** 26 });
  expect(stdout).not.toContain(new URL(server.connectionString).password);
  child.stdin.end();
});
