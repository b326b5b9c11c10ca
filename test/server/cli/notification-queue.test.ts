import { expect, it } from "vitest";
import { createWorker } from "#embedd/worker/worker.js";
import { spawnCli } from "../../helpers/cli.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { connectWriter, expectVectors } from "../../helpers/watched-table.js";
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
});
