import pg from "pg";
import { expect, it, onTestFinished } from "vitest";
import { withOwnerClient } from "#embedd/database/pool.js";
import { watch } from "#embedd/admin/watch.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { spawnCli } from "../../../helpers/cli.js";
import type { CliExit, CliProcess } from "../../../helpers/cli.js";
import { heldProvider } from "../../../helpers/providers.js";
import { catalogOf, expectModel, namedProvider } from "../../../helpers/switch-model.js";
import { waitFor } from "../../../helpers/wait.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();

const TO_NEW = ["switch-model", "docs", "--model", "new", "--dimensions", "8"];
const start = (...more: string[]): CliProcess =>
  spawnCli([...TO_NEW, ...more], { env: { DATABASE_URL: db.url } });

/** Runs a command until the server has noticed that the one before was killed. */
function untilFree(...more: string[]): Promise<CliExit> {
  return waitFor(
    async () => {
      const exit = await start(...more).exited;
      return exit.stderr.includes("has just been killed") ? undefined : exit;
    },
    { what: "the killed command's connection to end" },
  );
}

/** Keeps a transaction open after these statements. */
async function openTransaction(...statements: string[]): Promise<() => Promise<void>> {
  const client = new pg.Client({ connectionString: db.url, application_name: "test blocker" });
  await client.connect();
  for (const statement of statements) await client.query(statement);
  let ended: Promise<void> | undefined;
  const end = () => (ended ??= client.end());
  onTestFinished(end);
  return end;
}

/** CREATE INDEX CONCURRENTLY waits for its snapshot. */
const openSnapshot = () => openTransaction("begin isolation level repeatable read", "select 1");

async function kill(command: CliProcess): Promise<void> {
  command.child.kill("SIGKILL");
  expect(await command.exited).toMatchObject({ signal: "SIGKILL" });
}

/** An advisory lock that blocks the swap's transaction. */
const HOLD = 4_711;

interface Moment {
  /** Runs a switch up to this moment and kills it; returns what must end before it can be resumed. */
  reach: (held: ReturnType<typeof heldProvider>, startNew: () => Promise<unknown>) => Promise<() => unknown>;
}

const whenWaiting = (pattern: string, event = "Lock") =>
  waitFor(
    async () =>
      (
        await db.query(
          "select from pg_stat_activity where datname = current_database() and $2 in (wait_event_type, wait_event) and query ilike $1",
          [pattern, event],
        )
      ).rowCount === 1,
    { what: `${pattern} to wait` },
  );

const moments: Record<string, Moment> = {
  "while the index of pending rows is built": {
    async reach() {
      const end = await openSnapshot();
      const command = start();
      await whenWaiting("create index concurrently%pending%");
      await kill(command);
      return end;
    },
  },
  "after it has begun": {
    async reach() {
      const command = start();
      await command.waitForLine(/no worker of new is connected/);
      await kill(command);
      return () => undefined;
    },
  },
  "while rows are embedded": {
    async reach(held, startNew) {
      const inFlight = held.hold();
      const command = start("--max-behind", "0");
      await command.waitForLine(/switching/);
      await startNew();
      await inFlight;
      await kill(command);
      return () => {
        held.release();
      };
    },
  },
  "while an index is built": {
    async reach(_, startNew) {
      const command = start();
      await command.waitForLine(/no worker of new is connected/);
      const end = await openSnapshot();
      await startNew();
      await command.waitForLine(/building the index own/);
      await whenWaiting("create index concurrently%embedd_next%");
      await kill(command);
      return end;
    },
  },
  "while it waits for the lock": {
    async reach(_, startNew) {
      const command = start();
      await command.waitForLine(/no worker of new is connected/);
      // Before the worker starts, so that the swap cannot come first. It keeps no index from being built.
      const end = await openTransaction("begin", "lock table docs in access share mode");
      await startNew();
      await command.waitForLine(/swapping/);
      await whenWaiting("lock table%access exclusive%");
      await kill(command);
      return end;
    },
  },
  "within the swap's transaction": {
    async reach(_, startNew) {
      const end = await openTransaction(`select pg_advisory_lock(${HOLD})`);
      // Its last statements are CREATE TRIGGER, after all names are swapped.
      await db.query(
        `create function hold() returns event_trigger language plpgsql as 'begin if current_query() like ''%finish_switch%'' then perform pg_advisory_xact_lock(${HOLD}); end if; end';
         create event trigger hold on ddl_command_end when tag in ('CREATE TRIGGER') execute function hold()`,
      );
      const command = start();
      await command.waitForLine(/no worker of new is connected/);
      await startNew();
      await whenWaiting("select embedd.finish_switch%", "advisory");
      await kill(command);
      // Its backend notices this when it sends an answer, and then releases the table.
      await end();
      return () => db.query("drop event trigger hold; drop function hold()");
    },
  },
};

async function createDocs(): Promise<void> {
  await db.query(
    `create table docs (id int primary key, body text, embedding vector(16), embedding_model text);
     insert into docs select i, 'text ' || i from generate_series(1, 300) i`,
  );
  await withOwnerClient(db.url, (client) =>
    watch(client, { relation: "docs", content: ["body"], embedding: "embedding" }),
  );
}

describeServer("switch-model, killed with kill -9", () => {
  for (const [when, moment] of Object.entries(moments)) {
    for (const ending of ["resumes", "is aborted"]) {
      it(`${when}, ${ending}`, async () => {
        await createDocs();
        onTestFinished(async () => {
          await db.query("select embedd.unwatch('docs'); drop table docs");
        });
        const old = await startTestWorker(db, namedProvider("old", 16));
        await expectModel(db, "docs", "old", 16);
        await db.query("create index own on docs using hnsw (embedding vector_cosine_ops) with (m = 5)");
        const before = await catalogOf(db);

        const held = heldProvider(namedProvider("new", 8));
        const startNew = () => startTestWorker(db, held.provider);
        const goOn = await moment.reach(held, startNew);
        await db.query("update docs set body = 'edited ' || id where id <= 10");
        await goOn();
        if (ending === "is aborted") {
          expect(await untilFree("--abort")).toMatchObject({
            code: 0,
            stdout: "public.docs stays with old\n",
          });
          expect(await catalogOf(db)).toBe(before);
          await expectModel(db, "docs", "old", 16);
        } else {
          const finished = untilFree("--drop-old");
          const third = await startNew();
          expect(await finished).toMatchObject({
            code: 0,
            stderr: expect.stringContaining("resuming the switch of public.docs.embedding") as string,
            stdout: expect.stringContaining("now uses new (8 dimensions)") as string,
          });
          await expectModel(db, "docs", "new", 8);
          expect(
            (
              await db.query(
                "select indexdef from pg_indexes where tablename = 'docs' and indexdef like '%hnsw%'",
              )
            ).rows,
          ).toEqual([
            {
              indexdef:
                "CREATE INDEX own ON public.docs USING hnsw (embedding vector_cosine_ops) WITH (m='5')",
            },
          ]);
          await third.stop();
        }
        await old.stop();
      });
    }
  }
});
