import pg from "pg";
import { expect, it, onTestFinished } from "vitest";
import { migrate } from "#embedd/admin/migrate.js";
import { switchModel } from "#embedd/admin/switch-model/switch-model.js";
import type { Logger } from "#embedd/logger.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { createRole, expectVectors } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

/** What embedd and its earlier builds call their advisory locks. */
const CLASSES = ["embc", "embg", "embi", "embp", "embu", "embv", "embx"];
const classOf = (letters: string): number => Buffer.from(letters).readInt32BE();
const IDS = 60;

interface Stranger {
  client: pg.Client;
  pid: number;
  role: string;
}

/** A session of a role that may connect, and has no other right. */
async function strangerConnects(): Promise<Stranger> {
  const { role, url } = await createRole(db);
  const client = new pg.Client({ connectionString: url, application_name: "stranger" });
  client.on("error", () => undefined);
  await client.connect();
  onTestFinished(() => client.end());
  const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
  return { client, pid: rows[0]?.pid ?? 0, role };
}

async function strangerHolds(letters: string, mode: "alone" | "shared", ids = IDS): Promise<Stranger> {
  const stranger = await strangerConnects();
  await stranger.client.query(
    `select pg_advisory_lock${mode === "shared" ? "_shared" : ""}($1, id) from generate_series(0, $2) id`,
    [classOf(letters), ids],
  );
  return stranger;
}

async function createWatched(relation: string, index: string | null = null): Promise<number> {
  await db.query(
    `create table ${relation} (id int primary key, body text, embedding vector(384), embedding_model text)`,
  );
  const { rows } = await db.query<{ id: number }>(
    "select embedd.watch($1, '{body}', index_method => $2) as id",
    [relation, index],
  );
  return rows[0]?.id ?? 0;
}

function recordingLog(): { log: Logger; lines: string[] } {
  const lines: string[] = [];
  const record = (details: object, message: string) =>
    void lines.push(`${message} ${JSON.stringify(details)}`);
  return { log: { debug: () => undefined, info: record, warn: record, error: record }, lines };
}

/** Inserts rows one by one, each when the one before has its vector. */
async function insertOneByOne(relation: string, ids: number[]): Promise<void> {
  for (const id of ids) {
    await db.query(`insert into ${relation} values ($1, $2)`, [id, `text ${id}`]);
    await waitFor(
      async () =>
        (await db.query(`select from ${relation} where id = $1 and embedding is not null`, [id])).rowCount ===
        1,
      { what: `the vector of row ${id}` },
    );
  }
}

describeServer("a role that can only connect", () => {
  const modes = ["alone", "shared"] as const;

  it.each(CLASSES.flatMap((letters) => modes.map((mode) => [letters, mode] as const)))(
    "holds all locks of class %s %s before the worker starts, and rows are embedded without a poll",
    async (letters, mode) => {
      const relation = `before_${letters}_${mode}`;
      const pipeline = await createWatched(relation);
      expect(pipeline).toBeLessThan(IDS);
      await strangerHolds(letters, mode);
      await startTestWorker(db, hashProvider(), { maxTokensPerDay: 1e9 });
      await insertOneByOne(relation, [1, 2]);
    },
  );

  it("holds locks in vain while a worker sleeps", async () => {
    await createWatched("asleep");
    const worker = await startTestWorker(db, hashProvider(), { maxTokensPerDay: 1e9 });
    await worker.idle();
    const strangers = await Promise.all(CLASSES.map(() => strangerConnects()));
    // Those that must wait for the sleeper's own locks do.
    strangers.forEach(({ client }, i) => {
      client
        .query("select pg_advisory_lock($1, id) from generate_series(0, $2) id", [
          classOf(CLASSES[i] ?? ""),
          IDS,
        ])
        .catch(() => undefined);
    });
    onTestFinished(async () => {
      for (const { pid } of strangers) await db.query("select pg_terminate_backend($1)", [pid]);
    });
    await insertOneByOne("asleep", [1, 2, 3]);
  });

  it("cannot pass as a worker, nor keep one from starting", async () => {
    await db.query("select setval('embedd.worker_ids', 1000)");
    const { client } = await strangerConnects();
    await client.query("select pg_advisory_lock($1, id) from generate_series(1001, 2500) id", [
      classOf("embp"),
    ]);
    expect((await db.query("select from embedd.workers")).rowCount).toBe(0);
    const started = performance.now();
    const worker = await startTestWorker(db, hashProvider());
    // A pause for each of the 1,500 taken numbers would add up to more.
    expect(performance.now() - started).toBeLessThan(30_000);
    expect((await db.query("select id from embedd.workers")).rows).toEqual([{ id: worker.id }]);
  });

  it("keeps the leases of a dead worker valid only until they expire", async () => {
    const pipeline = await createWatched("leased");
    await db.query("insert into leased values (1, 'text 1')");
    await db.query(
      "insert into embedd.leases (pipeline_id, worker, keys, expires_at) values ($1, 55, '{1}', now() + interval '3 s')",
      [pipeline],
    );
    await strangerHolds("embp", "alone");
    await startTestWorker(db, hashProvider(), { maxTokensPerDay: 1e9 });
    await expectVectors(db, "leased", { 1: "text 1" });
  });

  it("cannot keep another model from taking over, nor lend a dead worker its place", async () => {
    const pipeline = await createWatched("taken");
    const first = await startTestWorker(db, hashProvider({ model: "old" }));
    await first.idle();
    const { id } = first;
    await first.stop();
    // Its row of embedd.heartbeats is back, as after kill -9, and a stranger holds its presence.
    await db.query("insert into embedd.heartbeats (worker, serves) values ($1, $2)", [id, [pipeline]]);
    await strangerHolds("embv", "shared");
    const { client } = await strangerConnects();
    await client.query("select pg_advisory_lock($1, $2)", [classOf("embp"), id]);
    await db.query("insert into taken values (1, 'text 1')");
    await startTestWorker(db, hashProvider(), { takeoverMs: 100 });
    await expectVectors(db, "taken", { 1: "text 1" });
  });

  it("cannot stop re-embedding, an index build, or idle(), by keeping the gate shared; the log names it", async () => {
    const pipeline = await createWatched("kept_awake", "hnsw");
    await db.query(
      "insert into kept_awake select i, 'text ' || i, array_fill(0.1, array[384])::vector, 'old' from generate_series(1, 20) i",
    );
    await db.query("update embedd.pipelines set reembed = true where id = $1", [pipeline]);
    const { pid, role } = await strangerHolds("embg", "shared");
    const { log, lines } = recordingLog();
    const worker = await startTestWorker(db, hashProvider(), { log });
    await worker.idle();
    await waitFor(
      async () =>
        (await db.query("select from kept_awake where embedding_model = 'hash'")).rowCount === 20 &&
        (
          await db.query("select from embedd.status where pipeline_id = $1 and vector_index = 'ready'", [
            pipeline,
          ])
        ).rowCount === 1,
      { what: "re-embedded rows and an index" },
    );
    await waitFor(() => lines.some((line) => line.includes(`"pid":${pid},"role":"${role}"`)), {
      what: "a log line that names the stranger",
    });
  });

  it("cannot stop migrate", async () => {
    const { client } = await strangerConnects();
    await client.query("select pg_advisory_lock($1)", [classOf("embs")]);
    expect(await migrate(db.url)).toEqual([]);
  });

  it("cannot stop switch-model", async () => {
    const pipeline = await createWatched("switched");
    for (const letters of ["embi", "embx"]) {
      await strangerHolds(letters, "alone");
    }
    expect(pipeline).toBeLessThan(IDS);
    await db.query("update embedd.pipelines set model = 'old' where id = $1", [pipeline]);
    await startTestWorker(db, hashProvider({ model: "next" }));
    const client = new pg.Client({ connectionString: db.url, application_name: "switch" });
    await client.connect();
    onTestFinished(() => client.end());
    await switchModel(client, {
      relation: "switched",
      embedding: "embedding",
      model: "next",
      dimensions: 384,
      index: "hnsw",
      pollMs: 100,
    });
    const { rows } = await db.query<{ model: string }>(
      "select current_model as model from embedd.status where relation = 'switched'",
    );
    expect(rows).toEqual([{ model: "next" }]);
  });

  it("is named, with its process, by doctor, status and the worker's log", async () => {
    const { pid, role } = await strangerHolds("embp", "alone", 3);
    const { log, lines } = recordingLog();
    await startTestWorker(db, hashProvider(), { log });
    await waitFor(() => lines.some((line) => line.includes(`"pid":${pid},"role":"${role}"`)), {
      what: "a log line that names the stranger",
    });
    const env = { DATABASE_URL: db.url };
    const status = await spawnCli(["status"], { env }).exited;
    expect(status.stdout).toContain(
      `foreign lock: role ${role} (pid ${pid}) holds the presence lock 1 alone`,
    );
    expect(status.stdout).toMatch(/^1 worker connected\n/);
    const doctor = await spawnCli(["doctor"], { env }).exited;
    expect(doctor.stdout).toMatch(
      new RegExp(`warn .*role ${role} \\(pid ${pid}\\).*\\n.*pg_terminate_backend\\(${pid}\\)`),
    );
  });
});
