import { expect, it } from "vitest";
import { describeServer, useDatabase } from "../helpers/database.js";
import { spawnCli } from "../helpers/cli.js";
import { waitFor } from "../helpers/wait.js";
import { connectWriter, createRole } from "../helpers/watched-table.js";

const db = useDatabase();

describeServer("a stranger's open snapshot, which the build of an index waits for,", () => {
  it("is named while watch waits, and a build that a signal ends can be finished", async () => {
    const { role, url } = await createRole(db);
    await db.query(
      "create table docs (id int primary key, body text, embedding vector(384), embedding_model text)",
    );
    const stranger = await connectWriter(url);
    await stranger.query("begin isolation level repeatable read; select 1");
    const { rows } = await stranger.query<{ pid: number }>("select pg_backend_pid() as pid");
    const env = { DATABASE_URL: db.url };
    const watching = spawnCli(["watch", "docs", "--content", "body"], { env });
    await waitFor(() => watching.stderr.includes("waiting for pid"), { what: "the name of the stranger" });
    expect(watching.stderr).toMatch(
      new RegExp(
        `waiting for pid ${rows[0]?.pid ?? 0} \\(role ${role}, database .*, in a transaction since 20`,
      ),
    );

    watching.child.kill("SIGINT");
    const { code, stderr } = await watching.exited;
    expect(code).not.toBe(0);
    expect(stderr).toContain(
      "the index of pending rows is unfinished\n  try: embedd repair docs  # finishes it; or: embedd unwatch docs\n",
    );
    const index = async () =>
      (
        await db.query(
          "select i.indisvalid as valid from pg_index i where i.indexrelid::regclass::text like 'embedd_%_pending' and i.indrelid = 'docs'::regclass",
        )
      ).rows;
    expect(await index()).toEqual([{ valid: false }]);
    await stranger.query("rollback");
    const repaired = await spawnCli(["repair", "docs"], { env }).exited;
    expect(repaired, repaired.stderr).toMatchObject({ code: 0 });
    expect(await index()).toEqual([{ valid: true }]);
    await spawnCli(["unwatch", "docs"], { env }).exited;
    await db.query("drop table docs");
  });

  it("lets a canceled build say how to finish it", async () => {
    const { url } = await createRole(db);
    await db.query(
      "create table docs (id int primary key, body text, embedding vector(384), embedding_model text)",
    );
    const stranger = await connectWriter(url);
    await stranger.query("begin isolation level repeatable read; select 1");
    const env = { DATABASE_URL: db.url };
    const watching = spawnCli(["watch", "docs", "--content", "body"], { env });

    await waitFor(
      async () =>
        (
          await db.query(
            "select pg_cancel_backend(pid) from pg_stat_activity where datname = current_database() and query like 'create index concurrently%' and wait_event = 'virtualxid'",
          )
        ).rowCount === 1,
      { what: "the build to wait" },
    );
    expect(await watching.exited).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("try: embedd repair docs  # builds it") as string,
    });
    await stranger.query("rollback");
    expect(await spawnCli(["repair", "docs"], { env }).exited).toMatchObject({ code: 0 });
    await spawnCli(["unwatch", "docs"], { env }).exited;
    await db.query("drop table docs");
  });
});
