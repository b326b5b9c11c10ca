import { execFile } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { spawnCli } from "../helpers/cli.js";
import { createCluster, findBinaries } from "./cluster.js";
import type { Cluster } from "./cluster.js";

const script = fileURLToPath(new URL("../../deploy/create-roles.sh", import.meta.url));
const bin = findBinaries();

const NAME = "the roles of docker-compose.yml";
if (bin === null) describe.skip(`${NAME} [needs PostgreSQL's programs on this machine]`, tests);
else describe(NAME, tests);

function tests(): void {
  let cluster: Cluster;
  const query = async (user: string, text: string): Promise<Record<string, unknown>[]> => {
    const client = new pg.Client({ connectionString: cluster.url(user).replace(/postgres$/, "app") });
    await client.connect();
    try {
      return (await client.query<Record<string, unknown>>(text)).rows;
    } finally {
      await client.end();
    }
  };
  const embedd = (user: string, args: string[], env: Record<string, string> = {}) =>
    spawnCli(args, { env: { DATABASE_URL: cluster.url(user).replace(/postgres$/, "app"), ...env } }).exited;

  beforeAll(async () => {
    cluster = await createCluster();
    await promisify(execFile)("sh", [script], {
      env: {
        ...process.env,
        PATH: `${dirname(join(bin ?? "", "psql"))}:${process.env["PATH"] ?? ""}`,
        PGHOST: cluster.folder,
        PGPORT: String(cluster.port),
        POSTGRES_PASSWORD: 'it\'s "quoted" \\ $HOME',
        EMBEDD_WORKER_PASSWORD: "another",
      },
    });
  });
  afterAll(() => cluster.destroy());

  it("are no superusers, and the superuser has no password left", async () => {
    expect(
      await query(
        "app",
        "select rolname, rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or rolreplication as mighty from pg_roles where rolcanlogin order by 1",
      ),
    ).toEqual([
      { rolname: "app", mighty: false },
      { rolname: "embedd_worker", mighty: false },
      { rolname: "postgres", mighty: true },
    ]);
    expect(
      await query("postgres", "select rolname from pg_authid where rolpassword is null and rolcanlogin"),
    ).toEqual([{ rolname: "postgres" }]);
  });

  it("migrate, embed and report the health of the worker", async () => {
    expect(await embedd("app", ["migrate"])).toMatchObject({ code: 0 });
    expect(await embedd("app", ["grant", "embedd_worker"])).toMatchObject({ code: 0 });
    await query(
      "app",
      `create table docs (id int primary key, body text, embedding vector(384), embedding_model text);
       insert into docs values (1, 'text')`,
    );
    // Watched after the grant.
    await query("app", "select embedd.watch('docs', '{body}')");
    // As in a container with a read-only root file system and no home.
    const nowhere = { HOME: "/nonexistent", TMPDIR: "/nonexistent" };
    expect(await embedd("embedd_worker", ["run", "--once"], nowhere)).toMatchObject({ code: 0 });
    expect(await query("app", "select embedding is null as pending from docs")).toEqual([{ pending: false }]);
    expect(await embedd("embedd_worker", ["status", "--require-worker"])).toMatchObject({
      code: 3,
      stdout: "0 workers\n",
    });
    await expect(query("embedd_worker", "drop table docs")).rejects.toThrow(/must be owner/);
  });
}
