import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { BUILT_IN_MODEL, spawnCli } from "../../helpers/cli.js";
import { waitFor } from "../../helpers/wait.js";

const db = useDatabase();
const COMMANDS = [
  "migrate",
  "watch",
  "unwatch",
  "grant",
  "run",
  "status",
  "pause",
  "resume",
  "search",
  "estimate",
  "failures",
  "retry",
  "reembed",
  "switch-model",
  "doctor",
  "demo",
  "uninstall",
];

const embedd = (args: string[], env: Record<string, string> = {}) =>
  spawnCli(args, { env: { DATABASE_URL: db.url, ...env } }).exited;

describe("embedd", () => {
  it.each(COMMANDS)("%s has help with an example", async (command) => {
    const { code, stdout } = await embedd([command, "--help"]);
    expect(code).toBe(0);
    expect(stdout).toContain("Usage: embedd " + command);
    expect(stdout).toMatch(/Example:\n {2}\S/);
    expect(stdout).toContain("--database-url");
  });

  it("exits with 2 on wrong usage", async () => {
    expect(await embedd(["wach", "docs"])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("watch") as string,
    });
    expect(await embedd(["watch", "docs"])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("--content") as string,
    });
    expect(await embedd(["search", "x", "--limit", "many"])).toMatchObject({ code: 2 });
  });

  it("exits with 2 on invalid settings and reports all of them", async () => {
    const { code, stderr } = await embedd(["status"], { EMBEDD_LEASE_MS: "x", EMBEDD_BATCHMS: "5" });
    expect(code).toBe(2);
    expect(stderr).toMatch(/EMBEDD_BATCHMS.*\n.*EMBEDD_LEASE_MS|EMBEDD_LEASE_MS.*\n.*EMBEDD_BATCHMS/);
  });

  it("exits with 4 if the database is unreachable", async () => {
    const { code, stderr } = await embedd(["status"], {
      DATABASE_URL: "postgres://postgres@127.0.0.1:1/none",
    });
    expect(code).toBe(4);
    expect(stderr).toMatch(/no PostgreSQL server answers at 127.0.0.1:1: .*\n {2}try: pg_isready/);
  });

  it("says what to type when the schema is missing", async () => {
    const { url } = await db.createDatabase();
    for (const command of [["status"], ["run"], ["watch", "docs", "--content", "body"]]) {
      const { code, stderr } = await embedd(command, { DATABASE_URL: url });
      expect(stderr).toContain("try: embedd migrate");
      expect(code).toBe(2);
    }
  });
});

describe("a table of the user", () => {
  it("is watched, embedded, counted, searched and unwatched", async () => {
    const { url, query } = await db.createDatabase();
    const env = { DATABASE_URL: url, ...BUILT_IN_MODEL };
    expect(await embedd(["migrate"], env)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("000001") as string,
    });
    expect(await embedd(["migrate"], env)).toMatchObject({ code: 0, stdout: "up to date\n" });
    await query(
      `create table docs (id uuid primary key default gen_random_uuid(), title text, body text, embedding vector(384), embedding_model text)`,
    );
    await query(
      `insert into docs (title, body) values ('Cats', 'Felines sleep most of the day.'), ('Ships', 'A hull displaces water.'), (null, ' ')`,
    );
    expect(await embedd(["watch", "docs", "--content", "title", "body"], env)).toMatchObject({ code: 0 });
    expect(await embedd(["watch", "docs", "--content", "title,body"], env)).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/already watched[\s\S]*try: .*unwatch/) as string,
    });
    expect(await embedd(["search", "boats", "--table", "docs"], env)).toMatchObject({ code: 3 });
    expect(await embedd(["pause", "dogs"], env)).toMatchObject({ code: 2 });
    expect(await embedd(["pause", "docs"], env)).toMatchObject({ stdout: "paused docs: 1 pipeline\n" });
    expect(await embedd(["run", "--once"], env)).toMatchObject({
      stdout: expect.stringMatching(/^nothing to do: 0 rows are pending/) as string,
    });
    expect(await embedd(["resume", "docs"], env)).toMatchObject({ stdout: "resumed docs: 1 pipeline\n" });
    const once = await embedd(["run", "--once"], env);
    expect(once, once.stderr).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^2 rows in /) as string,
    });
    expect(once.stderr).toContain("embedding");
    const status = JSON.parse((await embedd(["status", "--json"], env)).stdout) as {
      pipelines: Record<string, unknown>[];
    };
    expect(status.pipelines.find((p) => p.relation === "docs")).toMatchObject({
      pending: 0,
      done: 2,
      blank: 1,
      inFlight: 0,
      doneByModel: { "all-MiniLM-L6-v2": 2 },
    });
    expect((await embedd(["status"], env)).stdout).toMatch(/docs\.embedding[\s\S]*done {6}2\n/);
    const found = JSON.parse(
      (await embedd(["search", "boats", "--table", "docs", "--json"], env)).stdout,
    ) as {
      content: { title: string };
      distance: number;
    }[];
    expect(found.map((row) => row.content.title)).toEqual(["Ships", "Cats"]);
    expect(found[0]?.distance).toBeLessThan(found[1]?.distance ?? 0);
    expect(await embedd(["unwatch", "docs"], env)).toMatchObject({ code: 0 });
    expect(await embedd(["unwatch", "docs"], env)).toMatchObject({ code: 2 });
  });
});

describe("failed rows", () => {
  it("are listed, and retried on request", async () => {
    await db.query(`insert into embedd.failures (pipeline_id, key, content_hash, code, error, next_attempt_at, dead)
      values (1, '42', '', 'bad_input', 'input refused', now(), true), (1, '43', '', 'blank', 'blank', now() + interval '1 h', false)`);
    const dead = await embedd(["failures", "--dead"]);
    expect(dead.stdout).toMatch(/embedd\.chunks\.embedding {2}key 42 {2}bad_input: input refused\n.*dead/);
    expect(dead.stdout.match(/key \S+/g)).toEqual(["key 42"]);
    const one = await embedd(["failures", "--table", "embedd.chunks", "--limit", "1", "--json"]);
    expect(JSON.parse(one.stdout)).toHaveLength(1);
    expect(one.stderr).toBe("more rows exist; raise --limit\n");
    expect(await embedd(["failures", "--table", "nowhere"])).toMatchObject({ code: 2 });
    expect(await embedd(["status", "--json"])).toMatchObject({ code: 3 });
    expect(await embedd(["retry", "--table", "embedd.chunks", "--key", "42"])).toMatchObject({
      code: 0,
      stdout: "1 row will be retried\n",
    });
    expect(await embedd(["retry", "--table", "nowhere"])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("nowhere") as string,
    });
    expect(await embedd(["retry"])).toMatchObject({ code: 0, stdout: "1 row will be retried\n" });
    expect(await embedd(["retry"])).toMatchObject({ code: 3 });
    expect(await embedd(["failures"])).toMatchObject({ stdout: "no failed rows\n" });
    expect(await embedd(["status"])).toMatchObject({ code: 0 });
  });
});

describeServer("embedd run", () => {
  it("embeds until SIGTERM, then exits with 0 within 10 s and leaves no lease", async () => {
    const { url, query } = await db.createMigratedDatabase();
    const worker = spawnCli(["run"], { env: { DATABASE_URL: url, EMBEDD_LOG_FORMAT: "json" } });
    await worker.waitForLine(/"dimensions":\[384\].*"ready"/);
    expect(await embedd(["status", "--require-worker"], { DATABASE_URL: url })).toMatchObject({
      code: 0,
      stdout: "1 worker\n",
    });
    await query(`insert into embedd.chunks (source, content)
      select 'load', repeat('A sentence that takes the model a while to read. ', 12) || i from generate_series(1, 2000) i`);
    await waitFor(
      async () => ((await query("select from embedd.chunks where embedding is not null")).rowCount ?? 0) > 0,
      { what: "the first vectors" },
    );
    const started = Date.now();
    worker.child.kill("SIGTERM");
    expect(await worker.exited).toMatchObject({ code: 0 });
    // All rows would take minutes.
    expect(Date.now() - started).toBeLessThan(45_000);
    expect((await query("select from embedd.leases")).rowCount).toBe(0);
    expect((await query("select from embedd.chunks where embedding is null")).rowCount).toBeGreaterThan(0);
    expect(await embedd(["status", "--require-worker"], { DATABASE_URL: url })).toMatchObject({
      code: 3,
      stdout: "0 workers\n",
    });
    expect(worker.stderr).not.toContain("A sentence");
  });

  it("refuses a column whose dimensions the model does not make, and status shows why", async () => {
    const { url, query } = await db.createMigratedDatabase();
    await query(
      "create table narrow (id int primary key, body text, embedding vector(3), embedding_model text)",
    );
    await query("select embedd.unwatch('embedd.chunks'), embedd.watch('narrow', '{body}')");
    const { code, stderr } = await embedd(["run"], { DATABASE_URL: url });
    expect(code).toBe(2);
    expect(stderr).toMatch(/embedding of .*narrow is vector\(3\).*makes 384 dimensions/);
    expect((await query("select error from embedd.status")).rows).toMatchObject([
      { error: expect.stringContaining("makes 384 dimensions") as string },
    ]);
    expect(await embedd(["status"], { DATABASE_URL: url })).toMatchObject({ code: 3 });
    await query("select embedd.watch('embedd.chunks', '{content}')");
    expect(await embedd(["run", "--once"], { DATABASE_URL: url })).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(
        /^public\.narrow is not served: .*makes 384 dimensions|^narrow is not served/m,
      ) as string,
    });
  });
});

describe("without DATABASE_URL", () => {
  it.each([
    "migrate",
    "watch docs --content body",
    "run",
    "run --once",
    "status",
    "search text",
    "doctor",
    "failures",
    "uninstall",
  ])("embedd %s says which variable is missing and starts nothing", async (command) => {
    const folder = await mkdtemp(join(tmpdir(), "embedd-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const { code, stdout, stderr } = await spawnCli(command.split(" "), { cwd: folder }).exited;
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/DATABASE_URL is not set.*--embedded\n {2}try: export DATABASE_URL=postgres:/);
    expect(await readdir(folder)).toEqual([]);
  });

  it("two databases are refused", async () => {
    const args = ["status", "--embedded", "--database-url", "postgres://127.0.0.1/app"];
    const { code, stderr } = await spawnCli(args).exited;
    expect(code).toBe(2);
    expect(stderr).toContain("--embedded and --database-url name two databases");
  });
});

describe("embedd run --embedded", () => {
  it("starts its own PostgreSQL and prints an address for psql", async () => {
    const folder = await mkdtemp(join(tmpdir(), "embedd-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const worker = spawnCli(["run", "--embedded"], { cwd: folder, env: { EMBEDD_LOG_FORMAT: "json" } });
    const line = await worker.waitForLine(/psql "postgres:/);
    await worker.waitForLine(/"ready"/);
    const url = /"(.+)"/.exec(line)?.[1] ?? "";
    const { Client } = (await import("pg")).default;
    const before = process.env["PGPASSFILE"];
    onTestFinished(() => {
      if (before === undefined) delete process.env["PGPASSFILE"];
      else process.env["PGPASSFILE"] = before;
    });
    process.env["PGPASSFILE"] = join(folder, ".embedd", "embedd.pgpass");
    const client = new Client(url);
    await client.connect();
    await client.query(
      "insert into embedd.chunks (source, content) values ('mine', 'inserted from outside')",
    );
    await waitFor(
      async () =>
        (await client.query("select from embedd.chunks where embedding is not null")).rowCount === 1,
      { what: "the vector of a row from outside" },
    );
    await client.end();
    // A second command joins the first's database.
    const status = await spawnCli(["status", "--json", "--embedded"], { cwd: folder }).exited;
    expect(JSON.parse(status.stdout)).toMatchObject({ pipelines: [{ done: 1 }] });
    worker.child.kill("SIGTERM");
    expect(await worker.exited).toMatchObject({ code: 0 });
    // And the rows are there when it starts again.
    const again = await spawnCli(["search", "from outside", "--embedded"], { cwd: folder }).exited;
    expect(again.stdout).toContain("inserted from outside");
  });
});
