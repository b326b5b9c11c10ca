import { execFile } from "node:child_process";
import { chmod, chown, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { EmbeddError, createWorker, migrate, status } from "#embedd/index.js";
import { spawnCli } from "../helpers/cli.js";
import { hashProvider } from "../helpers/providers.js";
import { createCluster } from "./cluster.js";
import type { Cluster } from "./cluster.js";
import { describeFaults } from "./use-stage.js";

const run = promisify(execFile);

const HBA = `local all all trust
host all with_password 127.0.0.1/32 scram-sha-256
hostssl all only_tls 127.0.0.1/32 trust
hostnossl all only_tls 127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
`;

/** A certificate of an authority that no system knows, as managed services have them. */
async function createCertificates(folder: string): Promise<{ ca: string; key: string; cert: string }> {
  const path = (name: string) => join(folder, name);
  const [ca, caKey, key, request, cert, san] = [
    "ca.pem",
    "ca.key",
    "server.key",
    "server.csr",
    "server.pem",
    "san",
  ].map(path) as [string, string, string, string, string, string];
  const subject = ["-subj", "/CN=test authority"];
  await run("openssl", [
    "req",
    "-x509",
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-days",
    "2",
    "-keyout",
    caKey,
    "-out",
    ca,
    ...subject,
  ]);
  await run("openssl", [
    "req",
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-keyout",
    key,
    "-out",
    request,
    "-subj",
    "/CN=server",
  ]);
  await writeFile(san, "subjectAltName = IP:127.0.0.1");
  await run("openssl", [
    "x509",
    "-req",
    "-in",
    request,
    "-CA",
    ca,
    "-CAkey",
    caKey,
    "-CAcreateserial",
    "-days",
    "2",
    "-extfile",
    san,
    "-out",
    cert,
  ]);
  return { ca, key, cert };
}

describeFaults("the first connection", () => {
  let cluster: Cluster;
  let folder: string;
  let ca: string;
  let address: (user: string, rest?: string) => string;

  async function asSuperuser(sql: string): Promise<void> {
    const client = new pg.Client(cluster.url("postgres"));
    await client.connect();
    await client.query(sql).finally(() => client.end());
  }

  beforeAll(async () => {
    cluster = await createCluster();
    folder = await mkdtemp(join(tmpdir(), "embedd-tls-"));
    address = (user, rest = "/postgres") => `postgres://${user}@127.0.0.1:${cluster.port}${rest}`;
    await asSuperuser(`create role with_password login password 'right'; create role only_tls login;
      create role nobody_much login; create role may_create login`);
    await asSuperuser("grant create on database postgres to may_create");
    await writeFile(join(cluster.folder, "data", "pg_hba.conf"), HBA);
    await asSuperuser("select pg_reload_conf()");
  });

  afterAll(async () => {
    await cluster.destroy();
    await rm(folder, { recursive: true });
  });

  async function turnOnTls(): Promise<void> {
    const made = await createCertificates(folder);
    ca = made.ca;
    const { uid, gid } = await stat(join(cluster.folder, "data"));
    await chmod(folder, 0o755);
    for (const file of [made.key, made.cert]) await chown(file, uid, gid);
    await chmod(made.key, 0o600);
    const client = new pg.Client(cluster.url("postgres"));
    await client.connect();
    await client.query(`alter system set ssl_cert_file = '${made.cert}'`);
    await client.query(`alter system set ssl_key_file = '${made.key}'`);
    await client.query("alter system set ssl = on");
    await client.query("select pg_reload_conf()");
    await client.end();
  }

  const cases: { name: string; url: () => string; code: string; says: RegExp; hint: RegExp }[] = [
    {
      name: "with a wrong password",
      url: () => address("with_password:wrong"),
      code: "login",
      says: /password authentication failed for user "with_password"/,
      hint: /psql -h 127\.0\.0\.1 -p \d+ -U with_password postgres/,
    },
    {
      name: "without the password",
      url: () => address("with_password"),
      code: "login",
      says: /asks for the password of role with_password/,
      hint: /export DATABASE_URL='postgres:\/\/with_password:PASSWORD@127/,
    },
    {
      name: "as a role that is not there",
      url: () => address("stranger"),
      code: "login",
      says: /role "stranger" does not exist/,
      hint: /psql -h/,
    },
    {
      name: "to a database that is not there",
      url: () => address("postgres", "/no%20such"),
      code: "no_such_database",
      says: /database "no such" does not exist/,
      hint: /createdb -h 127\.0\.0\.1 -p \d+ -U postgres 'no such'/,
    },
    {
      name: "to a port where nothing listens",
      url: () => "postgres://postgres@127.0.0.1:1/postgres",
      code: "database_unreachable",
      says: /no PostgreSQL server answers at 127\.0\.0\.1:1: .*ECONNREFUSED/,
      hint: /pg_isready -h 127\.0\.0\.1 -p 1/,
    },
    {
      name: "with TLS that the server does not have",
      url: () => address("postgres", "/postgres?sslmode=require"),
      code: "tls",
      says: /has no TLS/,
      hint: /\?sslmode=disable'/,
    },
    {
      name: "with a certificate file that is not there",
      url: () => address("postgres", "/postgres?sslrootcert=/no/such.pem"),
      code: "tls",
      says: /cannot be read: .*\/no\/such\.pem/,
      hint: /sslrootcert=ca\.pem/,
    },
  ];

  it.each(cases)("$name says what is wrong and what to type", async ({ url, code, says, hint }) => {
    const env = { DATABASE_URL: url() };
    for (const command of [["status"], ["migrate"], ["run", "--once"]]) {
      const exit = await spawnCli(command, { env }).exited;
      expect(exit.code, exit.stderr).toBe(4);
      expect(exit.stderr).toMatch(says);
      expect(exit.stderr).toMatch(new RegExp(`\n  try: .*${hint.source}`));
      expect(exit.stderr).not.toMatch(/wrong@|Warning/);
    }
    const failing = [
      () => migrate(url()),
      () => status(url()),
      () => createWorker({ databaseUrl: url(), provider: hashProvider() }),
    ];
    for (const call of failing) {
      const error: unknown = await call().then(
        () => null,
        (thrown: unknown) => thrown,
      );
      expect(error).toBeInstanceOf(EmbeddError);
      expect(error).toMatchObject({ code });
    }
  });

  it("with an authority of the provider's own names sslrootcert, which works, as uselibpqcompat does", async () => {
    await turnOnTls();
    const refused = await spawnCli(["status"], {
      env: { DATABASE_URL: address("only_tls", "/postgres?sslmode=require") },
    }).exited;
    expect(refused.code).toBe(4);
    expect(refused.stderr).toMatch(
      /certificate of 127\.0\.0\.1:\d+ cannot be verified: .*sslrootcert.*\n {2}try: export .*sslrootcert=ca\.pem'/,
    );
    expect(refused.stderr).not.toContain("Warning");
    const plain = await spawnCli(["status"], { env: { DATABASE_URL: address("only_tls") } }).exited;
    expect(plain.stderr).toMatch(
      /accepts only encrypted connections.*\n {2}try: export .*\?sslmode=require'/,
    );
    for (const query of [`sslmode=verify-full&sslrootcert=${ca}`, "sslmode=require&uselibpqcompat=true"]) {
      const reached = await spawnCli(["status"], {
        env: { DATABASE_URL: address("only_tls", `/postgres?${query}`) },
      }).exited;
      // The database has no schema, which only a connection can tell.
      expect(reached).toMatchObject({ code: 2, stderr: expect.stringContaining("embedd migrate") as string });
      expect(reached.stderr).not.toContain("Warning");
    }
  });

  it("migrate without rights says who has to type what, and then works", async () => {
    const migrateAs = (role: string) =>
      spawnCli(["migrate"], { env: { DATABASE_URL: address(role) } }).exited;
    const typeHint = async (stderr: string): Promise<void> => {
      const hint = /try: (.*)/.exec(stderr)?.[1] ?? "";
      await run("sh", ["-c", hint]);
    };
    const first = await migrateAs("nobody_much");
    expect(first.code).toBe(2);
    expect(first.stderr).toMatch(
      /permission denied for database postgres\..*\n {2}try: psql .*grant create on database/,
    );
    await typeHint(first.stderr);
    const second = await migrateAs("nobody_much");
    expect(second.stderr).toMatch(
      /permission denied to create extension "vector"\..*\n {2}try: psql .*create extension vector/,
    );
    expect(second.code).toBe(2);
    await typeHint(second.stderr);
    expect(await migrateAs("nobody_much")).toMatchObject({ code: 0 });
  });
});
