import pg from "pg";
import { expect, it, onTestFinished } from "vitest";
import { migrate } from "#embedd/admin/migrate.js";
import { createWorker } from "#embedd/worker/worker.js";
import { hashProvider } from "../helpers/providers.js";
import { waitFor } from "../helpers/wait.js";
import { WITHOUT_TIMERS } from "../helpers/worker.js";
import { createCluster } from "./cluster.js";
import { describeFaults } from "./use-stage.js";

// On a server of its own, because every session of the server suffers.
describeFaults("a role that can only connect and fills the server's lock table", () => {
  it("stops embedding no longer than its session lasts", async () => {
    const cluster = await createCluster();
    onTestFinished(() => cluster.destroy());
    await cluster.start();
    const url = cluster.url("postgres");
    await migrate(url);
    const owner = new pg.Client(url);
    await owner.connect();
    onTestFinished(() => owner.end());
    await owner.query("create role stranger login");
    const worker = await createWorker({
      databaseUrl: url,
      provider: hashProvider(),
      ...WITHOUT_TIMERS,
    });
    onTestFinished(() => worker.stop());
    await worker.idle();

    const stranger = new pg.Client(cluster.url("stranger"));
    stranger.on("error", () => undefined);
    await stranger.connect();
    const full = stranger.query("select pg_advisory_lock(i) from generate_series(1, 1000000) i");
    await expect(full).rejects.toMatchObject({ code: "53200" });
    const insert = () => owner.query("insert into embedd.chunks (source, content) values ('a', 'a')");
    // PostgreSQL itself refuses a transaction that writes.
    const during = await insert().then(
      () => true,
      () => false,
    );
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    await stranger.end();
    if (!during)
      await waitFor(
        () =>
          insert().then(
            () => true,
            () => false,
          ),
        { what: "an insert" },
      );
    await waitFor(
      async () => (await owner.query("select from embedd.chunks where embedding is not null")).rowCount === 1,
      { what: "its vector" },
    );
  });
});
