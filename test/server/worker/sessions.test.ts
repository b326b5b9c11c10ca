import { expect, it, onTestFinished } from "vitest";
import { GATE_CLASS } from "#embedd/database/advisory-locks.js";
import { createWorker } from "#embedd/worker/worker.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { startPgbouncer } from "../../helpers/programs.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

async function setReadOnly(value: "on" | "off"): Promise<void> {
  await db.query(
    `set default_transaction_read_only = off;
     do $$ begin execute format('alter database %I set default_transaction_read_only = ${value}', current_database()); end $$`,
  );
}

/** Ends the worker's connections, as a failover does; its next ones have the database's new settings. */
async function endSessions(names: string): Promise<void> {
  await db.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name ~ $1",
    [names],
  );
}

async function isEmbedded(source: string): Promise<boolean> {
  return (
    (await db.query("select from embedd.chunks where source = $1 and embedding is not null", [source]))
      .rowCount === 1
  );
}

/** The processes that sleep with a gate of this database. */
async function gateHolders(): Promise<number[]> {
  const { rows } = await db.query<{ pid: number }>(
    `select pid from pg_locks
     where locktype = 'advisory' and classid = $1 and mode = 'ExclusiveLock' and granted
       and database = (select oid from pg_database where datname = current_database())`,
    [GATE_CLASS],
  );
  return rows.map(({ pid }) => pid);
}

describeServer("while the database is read-only", () => {
  it.each([
    ["the pool's sessions", "^embedd worker$", false],
    ["the presence", "^embedd presence$", true],
    ["all sessions", "^embedd (worker|presence|listener)$", false],
  ])(
    "the worker waits, and embeds within seconds afterwards, though %s began meanwhile",
    async (_, names, writes) => {
      const source = names;
      onTestFinished(() => setReadOnly("off"));
      const worker = await startTestWorker(db, hashProvider(), { pollIntervalMs: 1_000 });
      await worker.idle();
      await setReadOnly("on");
      await endSessions(names);
      await db.query("insert into embedd.chunks (source, content) values ($1, $1)", [source]);
      if (writes) await waitFor(() => isEmbedded(source), { what: "the vector" });
      else {
        // Several attempts fail, so that there are sessions that began in this time.
        await new Promise((resolve) => setTimeout(resolve, 4_000));
        expect(await isEmbedded(source)).toBe(false);
      }
      await setReadOnly("off");
      await waitFor(() => isEmbedded(source), { what: "the vector" });
      await waitFor(
        async () => (await db.query("select from embedd.workers where state = 'live'")).rowCount === 1,
        { what: "the worker's presence" },
      );
    },
  );
});

describeServer("a sleeping worker that loses its presence alone", () => {
  it("looks again, because writers stay silent once the gate is lost", async () => {
    const worker = await startTestWorker(db, hashProvider());
    await worker.idle();
    const pid = await waitFor(async () => (await gateHolders())[0], { what: "the worker to hold the gate" });
    await db.query("select pg_terminate_backend($1)", [pid]);
    await db.query("insert into embedd.chunks (source, content) values ('presence', 'presence')");
    await waitFor(() => isEmbedded("presence"), { what: "the vector" });
  });
});

describeServer("a fault while the worker has the gate", () => {
  it("leaves no gate behind that the worker cannot release, for it would make every writer notify", async () => {
    let faults = 0;
    const ignore = (): void => undefined;
    const log = {
      debug: ignore,
      info: ignore,
      warn: () => {
        faults++;
      },
      error: ignore,
    };
    // Its last statement before it sleeps, when it has the gate.
    await db.query(`create function refuse() returns trigger language plpgsql as $$ begin raise 'not today'; end $$;
      create trigger refuse before update of caught_up_at on embedd.pipelines for each row execute function refuse()`);
    onTestFinished(async () => {
      await db.query(
        "drop function refuse cascade; select embedd.set_paused('embedd.chunks', 'embedding', false)",
      );
    });
    await startTestWorker(db, hashProvider(), { log, pollIntervalMs: 500 });
    await waitFor(() => faults > 2, { what: "three faults" });
    await db.query("alter table embedd.pipelines disable trigger refuse");
    await waitFor(async () => (await gateHolders()).length === 1, {
      what: "the worker to sleep with the gate",
    });
    await db.query("select embedd.set_paused('embedd.chunks', 'embedding', true)");
    await waitFor(async () => (await gateHolders()).length === 0, {
      what: "the paused pipeline's gate to be free",
    });
  });
});

describeServer("a role that ends idle sessions", () => {
  it("does not end a worker's", async () => {
    const set = (value: string) =>
      db.query(
        `do $$ begin execute format('alter database %I set idle_session_timeout = ${value}', current_database()); end $$`,
      );
    onTestFinished(async () => {
      await set("default");
    });
    await set("3000");
    const worker = await startTestWorker(db, hashProvider());
    await worker.idle();
    const idleSince = async (): Promise<boolean> => {
      const { rowCount } = await db.query(
        `select distinct application_name from pg_stat_activity
        where datname = current_database() and state = 'idle' and now() - state_change > interval '6 s'
          and application_name in ('embedd worker', 'embedd listener')`,
      );
      return rowCount === 2;
    };
    await waitFor(idleSince, { what: "sessions that are idle for longer" });
  });
});

describeServer("behind a transaction pooler", () => {
  it("a worker refuses to start, and leaves no lock in a pooled connection", async () => {
    const url = await startPgbouncer(db.url);
    await expect(createWorker({ databaseUrl: url, provider: hashProvider() })).rejects.toMatchObject({
      code: "pooler",
    });
    const { rows } = await db.query("select from embedd.advisory_locks");
    expect(rows).toEqual([]);
  });

  it("embedd migrate and embedd switch-model refuse as well", async () => {
    const env = { DATABASE_URL: await startPgbouncer(db.url) };
    for (const args of [
      ["migrate"],
      ["switch-model", "embedd.chunks", "--model", "next", "--dimensions", "8"],
    ]) {
      const { code, stderr } = await spawnCli(args, { env }).exited;
      expect(stderr).toMatch(/transaction pooler/);
      expect(code).toBe(2);
    }
  });

  it("embedd run exits with 2 and says what to type", async () => {
    const url = await startPgbouncer(db.url);
    const { code, stderr } = await spawnCli(["run"], { env: { DATABASE_URL: url } }).exited;
    expect(stderr).toMatch(/transaction pooler.*\n {2}try: export DATABASE_URL='.*5432/);
    expect(code).toBe(2);
    const status = await spawnCli(["status", "--require-worker"], { env: { DATABASE_URL: db.url } }).exited;
    expect(status).toMatchObject({ code: 3, stdout: "0 workers\n" });
  });
});
