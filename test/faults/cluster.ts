import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { appendFile, chmod, chown, mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { waitFor } from "../helpers/wait.js";

const run = promisify(execFile);

/** A private PostgreSQL server that tests can stop, crash and start. */
export interface Cluster {
  readonly port: number;
  readonly folder: string;
  url(user: string, port?: number): string;
  start(): Promise<void>;
  /** `immediate` is a crash: no checkpoint, no clean disconnects. */
  stop(mode: "immediate" | "fast"): Promise<void>;
  destroy(): Promise<void>;
  /** Shell commands that stop and remove a server left running. */
  readonly howToStop: string;
}

/** The programs of the server that the tests run on, or of the newest PostgreSQL that has pgvector; null: none. */
export function findBinaries(): string | null {
  const ofServer = process.env["TEST_POSTGRESQL_BIN"];
  if (ofServer !== undefined && existsSync(join(ofServer, "initdb"))) return ofServer;
  const root = "/usr/lib/postgresql";
  if (!existsSync(root)) return null;
  const versions = readdirSync(root).sort((a, b) => Number(b) - Number(a));
  const usable = versions.find(
    (version) =>
      existsSync(join(root, version, "bin/initdb")) &&
      existsSync(`/usr/share/postgresql/${version}/extension/vector.control`),
  );
  return usable === undefined ? null : join(root, usable, "bin");
}

export async function createCluster(): Promise<Cluster> {
  const place = await findPlace();
  await place.execute("initdb", [
    ...["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N", "-D", place.data],
  ]);
  return startIn(place);
}

/** A hot standby of a cluster, which follows it until `select pg_promote()`. */
export async function createStandby(primary: Cluster): Promise<Cluster> {
  const place = await findPlace();
  await place.execute("pg_basebackup", [
    ...["-h", "127.0.0.1", "-p", String(primary.port), "-U", "postgres", "-D", place.data],
    ...["-R", "-X", "stream", "-c", "fast"],
  ]);
  return startIn(place);
}

interface Place {
  bin: string;
  folder: string;
  data: string;
  asRoot: boolean;
  /** Runs a program of PostgreSQL. */
  execute: (program: string, args: string[]) => Promise<unknown>;
}

async function findPlace(): Promise<Place> {
  const bin = findBinaries();
  if (bin === null) throw new Error("no PostgreSQL with pgvector below /usr/lib/postgresql");
  const folder = await mkdtemp(join(tmpdir(), "embedd-faults-"));
  const data = join(folder, "data");
  await mkdir(data, { mode: 0o700 });
  // PostgreSQL refuses to run as root.
  const asRoot = userInfo().uid === 0;
  if (asRoot) {
    const id = async (flag: string): Promise<number> => Number((await run("id", [flag, "postgres"])).stdout);
    const [uid, gid] = [await id("-u"), await id("-g")];
    await chown(folder, uid, gid);
    await chown(data, uid, gid);
    await chmod(folder, 0o755);
  }
  const execute = (program: string, args: string[]) =>
    asRoot
      ? run("runuser", ["-u", "postgres", "--", join(bin, program), ...args])
      : run(join(bin, program), args);
  return { bin, folder, data, asRoot, execute };
}

async function startIn({ bin, folder, data, asRoot, execute }: Place): Promise<Cluster> {
  const log = join(folder, "postgresql.log");
  const port = await freePort();
  // fsync off is safe here: only the server crashes, and the operating system keeps its writes.
  const settings = `port = ${port}
listen_addresses = '127.0.0.1'
unix_socket_directories = '${folder}'
fsync = off
full_page_writes = off
shared_buffers = 64MB
max_connections = 200
track_activity_query_size = 16kB
log_line_prefix = '%m [%p] %a '
`;
  await appendFile(join(data, "postgresql.conf"), settings);

  const url = (user: string, through = port): string => `postgres://${user}@127.0.0.1:${through}/postgres`;
  let running = false;
  const cluster: Cluster = {
    port,
    folder,
    url,
    async start() {
      // pg_ctl would poll only ten times per second, so we wait ourselves.
      await execute("pg_ctl", ["-D", data, "-l", log, "-W", "-s", "start"]);
      running = true;
      await waitFor(() => accepts(url("postgres")), {
        what: `PostgreSQL to start, see ${log}`,
        intervalMs: 10,
      });
    },
    async stop(mode) {
      running = false;
      await execute("pg_ctl", ["-D", data, "-m", mode, "-w", "-s", "stop"]);
    },
    howToStop: `${asRoot ? "runuser -u postgres -- " : ""}${join(bin, "pg_ctl")} -D ${data} -m immediate stop; rm -r ${folder}`,
    async destroy() {
      if (running) await cluster.stop("immediate");
      await rm(folder, { recursive: true, force: true });
    },
  };
  await cluster.start();
  return cluster;
}

/** Whether the server accepts connections. */
async function accepts(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
