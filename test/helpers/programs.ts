import { execFile, spawn } from "node:child_process";
import { chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { onTestFinished } from "vitest";
import { waitFor } from "./wait.js";

export interface ProgramOptions {
  input?: string | Uint8Array;
  env?: Record<string, string>;
}

/**
 * Runs a program to its end and returns what it printed.
 * @throws with its stderr if it fails, is missing, or takes longer than two minutes
 */
export function runProgram(
  file: string,
  args: readonly string[],
  { input = "", env = {} }: ProgramOptions = {},
): Promise<Buffer> {
  const child = spawn(file, args, { env: { ...process.env, ...env }, timeout: 120_000 });
  const stdout: Buffer[] = [];
  let stderr = "";
  child.stdout.on("data", (data: Buffer) => stdout.push(data));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      if (code === 0) resolve(Buffer.concat(stdout));
      else reject(new Error(`${file} ended with ${code ?? signal ?? "nothing"}: ${stderr}`));
    });
  });
}

/** A folder that is deleted when the test ends. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "embedd-test-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/**
 * pgbouncer in transaction mode before a database's server, with one server connection, so that all clients
 * take turns on it.
 * @returns the database's address through it
 */
export async function startPgbouncer(databaseUrl: string): Promise<string> {
  const folder = await temporaryFolder();
  const url = new URL(databaseUrl);
  const port = await freePort();
  const config = join(folder, "pgbouncer.ini");
  await writeFile(
    config,
    `[databases]
* = host=${url.hostname} port=${url.port || "5432"} user=${url.username}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 1
ignore_startup_parameters = extra_float_digits
`,
  );
  const user = await postgresUser();
  if (user !== null) await chown(folder, user.uid, user.gid);
  const child = spawn("/usr/sbin/pgbouncer", [config], { stdio: ["ignore", "ignore", "pipe"], ...user });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  let ended: string | null = null;
  const exited = new Promise<void>((resolve) => {
    child.once("error", (error) => {
      ended = error.message;
      resolve();
    });
    child.once("close", () => {
      ended ??= stderr;
      resolve();
    });
  });
  onTestFinished(async () => {
    child.kill("SIGTERM");
    await exited;
  });
  url.port = String(port);
  await waitFor(
    async () => {
      if (ended !== null) throw new Error(`pgbouncer did not start: ${ended}`);
      const client = new pg.Client(url.toString());
      client.on("error", () => undefined);
      try {
        await client.connect();
        await client.query("select 1");
        return true;
      } catch {
        return false;
      } finally {
        await client.end().catch(() => undefined);
      }
    },
    { what: "pgbouncer" },
  );
  return url.toString();
}

/** pgbouncer refuses to run as root; null if we are not root. */
async function postgresUser(): Promise<{ uid: number; gid: number } | null> {
  if (userInfo().uid !== 0) return null;
  const id = async (flag: string): Promise<number> =>
    Number((await promisify(execFile)("id", [flag, "postgres"])).stdout);
  return { uid: await id("-u"), gid: await id("-g") };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
