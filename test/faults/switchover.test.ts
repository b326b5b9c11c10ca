import pg from "pg";
import { it, onTestFinished } from "vitest";
import { migrate } from "#embedd/admin/migrate.js";
import { createWorker } from "#embedd/worker/worker.js";
import { hashProvider } from "../helpers/providers.js";
import { waitFor } from "../helpers/wait.js";
import { createCluster, createStandby } from "./cluster.js";
import type { Cluster } from "./cluster.js";
import { createProxy } from "./proxy.js";
import { describeFaults } from "./use-stage.js";

async function connect(cluster: Cluster): Promise<pg.Client> {
  const client = new pg.Client(cluster.url("postgres"));
  client.on("error", () => undefined);
  await client.connect();
  onTestFinished(() => client.end().catch(() => undefined));
  return client;
}

/** Inserts a text, and waits for its vector. */
async function expectEmbedded(client: pg.Client, source: string): Promise<void> {
  await client.query("insert into embedd.chunks (source, content) values ($1, $1)", [source]);
  const embedded = async () =>
    (await client.query("select from embedd.chunks where source = $1 and embedding is not null", [source]))
      .rowCount === 1;
  await waitFor(embedded, { what: `the vector of ${source}`, intervalMs: 50 });
}

// The worker's address stays the same and leads to the new primary, as a proxy or a DNS name does.
describeFaults("after a switchover to the standby", () => {
  it.each<[string, (old: Cluster, client: pg.Client) => Promise<void>]>([
    ["stops", (old) => old.stop("fast")],
    [
      "takes no writes any more, and keeps its sessions",
      async (_, client) => {
        await client.query("alter system set default_transaction_read_only = on");
        await client.query("select pg_reload_conf()");
      },
    ],
  ])("the same worker embeds on the new primary, where the old one %s", async (_, demote) => {
    const primary = await createCluster();
    onTestFinished(() => primary.destroy());
    await migrate(primary.url("postgres"));
    const standby = await createStandby(primary);
    onTestFinished(() => standby.destroy());
    const proxy = await createProxy(primary.port);
    onTestFinished(() => proxy.close());
    const worker = await createWorker({
      databaseUrl: primary.url("postgres", proxy.port),
      provider: hashProvider(),
    });
    onTestFinished(() => worker.stop());
    const before = await connect(primary);
    const after = await connect(standby);
    await expectEmbedded(before, "before");
    await before.query("insert into embedd.chunks (source, content) values ('on the way', 'on the way')");
    const { rows } = await before.query<{ lsn: string }>("select pg_current_wal_flush_lsn()::text as lsn");
    await waitFor(
      async () =>
        (await after.query("select where pg_last_wal_replay_lsn() >= $1::pg_lsn", [rows[0]?.lsn]))
          .rowCount === 1,
      { what: "the standby to catch up" },
    );

    await demote(primary, before);
    await after.query("select pg_promote()");
    proxy.lead(standby.port);
    await expectEmbedded(after, "after");
    await waitFor(
      async () => (await after.query("select from embedd.chunks where embedding is null")).rowCount === 0,
      { what: "every vector" },
    );
    await waitFor(
      async () => (await after.query("select from embedd.workers where state = 'live'")).rowCount === 1,
      { what: "the worker to be the only one" },
    );
  });
});
