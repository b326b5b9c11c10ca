import { expect, it } from "vitest";
import { repair } from "#embedd/admin/repair.js";
import { uninstall } from "#embedd/admin/uninstall.js";
import { unwatch } from "#embedd/admin/watch.js";
import { withOwnerClient } from "#embedd/database/pool.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { waitFor } from "../../helpers/wait.js";
import { connectWriter } from "../../helpers/watched-table.js";

const db = useDatabase();

/** The last one takes the schema away. What the command waits for, and a statement that then waits for the command. */
const cases = {
  unwatch: {
    first: "lock table docs in row exclusive mode",
    then: "update embedd.pipelines set paused = paused",
    run: (url: string) => withOwnerClient(url, (client) => unwatch(client, "docs")),
  },
  repair: {
    first: "lock table docs in row exclusive mode",
    then: "update embedd.pipelines set paused = paused",
    run: (url: string) => withOwnerClient(url, (client) => repair(client, { relation: "docs" })),
  },
  uninstall: {
    first: "lock table embedd.leases in row exclusive mode",
    then: "select from docs",
    run: (url: string) =>
      withOwnerClient(url, (client) => uninstall(client, { dropColumns: false, dropChunks: false })),
  },
};

describeServer("a command that PostgreSQL ends to resolve a deadlock", () => {
  it.each(Object.entries(cases))("runs again: %s", async (_, { first, then, run }) => {
    await db.query(`drop table if exists docs;
      create table docs (id int primary key, body text, embedding vector(2), embedding_model text);
      select embedd.watch('docs', '{body}')`);
    const other = await connectWriter(db.url);
    await other.query("begin");
    await other.query(first);
    const command = run(db.url);
    await waitFor(
      async () =>
        (
          await db.query(
            "select from pg_stat_activity where application_name = 'embedd' and wait_event_type = 'Lock' and datname = current_database()",
          )
        ).rowCount === 1,
      { timeoutMs: 10_000, what: "the command to wait" },
    );
    // The command has waited for longer, so it is the one that PostgreSQL ends.
    await other.query(then);
    await other.query("commit");
    await expect(command).resolves.toBeDefined();
  });
});
