import { expect, it } from "vitest";
import { createWorker } from "#embedd/worker/worker.js";
import { spawnCli } from "../../helpers/cli.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { connectWriter, countNotifications, expectVectors } from "../../helpers/watched-table.js";
import { WITHOUT_TIMERS } from "../../helpers/worker.js";

const db = useDatabase();

const embedd = (...args: string[]) => spawnCli(args, { env: { DATABASE_URL: db.url } }).exited;

describeServer("where the server's queue of notifications is filling up", () => {
  it("status and doctor say so and name the oldest transaction, and a worker starts and embeds", async () => {
    await db.query(`create table docs (id int primary key, body text, embedding vector(384), embedding_model text);
      select embedd.watch('docs', '{body}')`);
    const calm = await embedd("status");
    expect(calm.stdout).not.toContain("queue of notifications");
    await db.query(
      "create or replace function embedd.notify_limit() returns float8 language sql immutable as 'select 0::float8'",
    );
    const holder = await connectWriter(db.url);
    await holder.query("listen x; begin; select now()");
    const says =
      /the server's queue of notifications is \d+ % full; workers find rows by polling.*pid \d+, role /;
    expect((await embedd("status")).stdout).toMatch(says);
    const doctor = (await embedd("doctor")).stdout;
    expect(doctor).toMatch(says);
    expect(doctor).toMatch(/try: psql .*SELECT pg_terminate_backend\(\d+\);/);
    await holder.query("rollback");

    await db.query("insert into docs values (1, 'one')");
    const worker = await createWorker({
      ...WITHOUT_TIMERS,
      databaseUrl: db.url,
      provider: hashProvider(),
      reuse: false,
    });
    await expectVectors(db, "docs", { 1: "one" });
    await worker.stop();
  });

  it("no writer and no command notifies any more, so none fails at COMMIT if the queue is full", async () => {
    await db.query(`
      create or replace function embedd.notify_limit() returns float8 language sql immutable as 'select 0::float8';
      create table notes (id int primary key, body text, embedding vector(384), embedding_model text)`);
    const { rows } = await db.query<{ id: number }>("select embedd.watch('notes', '{body}') as id");
    const id = rows[0]?.id ?? 0;
    // As a worker that sleeps, so that writers have a cause to notify.
    const sleeper = await connectWriter(db.url);
    await sleeper.query("select pg_advisory_lock(embedd.lock_class('gate'), $1)", [id]);
    const notifications = await countNotifications(db);
    await db.query("insert into notes values (1, 'one')");
    await db.query("update notes set body = 'two'");
    await db.query("select embedd.set_paused('notes', null, true)");
    await db.query("select embedd.repair('notes', existing => 'keep')");
    await db.query("select embedd.retry(array[$1::integer])", [id]);
    await db.query("select embedd.unwatch('notes')");
    expect(await notifications.count()).toBe(0);
    await db.query(
      "create or replace function embedd.notify_limit() returns float8 language sql immutable as 'select 1::float8'",
    );
    await db.query("select embedd.watch('notes', '{body}')");
    expect(await notifications.count()).toBe(1);
  });
});
