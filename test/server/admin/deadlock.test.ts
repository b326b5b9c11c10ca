import { it, onTestFinished } from "vitest";
import type pg from "pg";
import { repair } from "#embedd/admin/repair.js";
import { grantWorker, revokeWorker } from "#embedd/admin/roles.sql.js";
import { abortSwitch } from "#embedd/admin/switch-model/abort.js";
import { createShadow } from "#embedd/admin/switch-model/switches.sql.js";
import { withTableLock } from "#embedd/admin/switch-model/table-lock.js";
import { uninstall } from "#embedd/admin/uninstall.js";
import { unwatch } from "#embedd/admin/watch.js";
import { withOwnerClient } from "#embedd/database/pool.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { waitFor } from "../../helpers/wait.js";
import { connectWriter, createRole } from "../../helpers/watched-table.js";

const db = useDatabase();

interface Case {
  first: string;
  then: string;
  run: (client: pg.Client, role: string) => Promise<unknown>;
  granted?: boolean;
}

const shadow = {
  relation: "docs",
  embedding: "embedding",
  model: "new",
  dimensions: 2,
  indexMethod: null,
  dropOld: true,
};
const beginSwitch = (client: pg.Client) =>
  withTableLock(client, "public.docs", "", () => createShadow(client, shadow));

/** What the command waits for, and a statement that then waits for the command. The last one drops the schema. */
const cases: Record<string, Case> = {
  unwatch: {
    first: "lock table docs in row exclusive mode",
    then: "update embedd.pipelines set paused = paused",
    run: (client) => unwatch(client, "docs"),
  },
  repair: {
    first: "lock table docs in row exclusive mode",
    then: "update embedd.pipelines set paused = paused",
    run: (client) => repair(client, { relation: "docs" }),
  },
  grant: {
    first: "lock table embedd.grants in share mode",
    then: "revoke select on embedd.heartbeats from public",
    run: grantWorker,
  },
  "grant --revoke": {
    first: "lock table embedd.shared_grants in share mode",
    then: "revoke select on embedd.heartbeats from public",
    run: revokeWorker,
    granted: true,
  },
  "switch-model": {
    first: "lock table embedd.grants in share mode",
    then: "select from docs",
    run: beginSwitch,
    granted: true,
  },
  "switch-model --abort": {
    first: "lock table embedd.grants in share mode",
    then: "select from docs",
    async run(client) {
      await abortSwitch(client, { relation: "docs", embedding: "embedding" });
    },
  },
  uninstall: {
    first: "lock table embedd.leases in row exclusive mode",
    then: "select from docs",
    run: (client) => uninstall(client, { dropColumns: false, dropChunks: false }),
  },
};

async function deadlocks(): Promise<number> {
  const { rows } = await db.query<{ deadlocks: string }>(
    "select deadlocks from pg_stat_database where datname = current_database()",
  );
  return Number(rows[0]?.deadlocks);
}

describeServer("a command that PostgreSQL ends to resolve a deadlock", () => {
  it.each(Object.entries(cases))("runs again: %s", async (name, { first, then, run, granted = false }) => {
    const { role } = await createRole(db);
    await db.query(`drop table if exists docs;
      create table docs (id int primary key, body text, embedding vector(2), embedding_model text);
      select embedd.watch('docs', '{body}');
      update embedd.pipelines set served_model = 'old' where relation = 'docs'::regclass`);
    if (granted) await db.query("select embedd.grant_worker($1)", [role]);
    if (name === "switch-model --abort") await withOwnerClient(db.url, beginSwitch);
    const before = await deadlocks();
    const other = await connectWriter(db.url);
    // Only the command looks for deadlocks, and not before the other session waits for it.
    await other.query("set deadlock_timeout = '5 min'; begin");
    await other.query(first);
    const command = withOwnerClient(db.url, async (client) => {
      // A switch's statements that lock are cancelled after 5 s.
      await client.query(`set deadlock_timeout = '${name.startsWith("switch-model") ? 4 : 8} s'`);
      return run(client, role);
    });
    let failed = false;
    command.catch(() => (failed = true));
    onTestFinished(async () => {
      await command.catch(() => undefined);
    });
    await waitFor(
      async () =>
        failed ||
        (
          await db.query(
            "select from pg_stat_activity where application_name = 'embedd' and wait_event_type = 'Lock' and datname = current_database()",
          )
        ).rowCount === 1,
      { what: "the command to wait" },
    );
    await other.query(then);
    await other.query("commit");
    await command;
    await waitFor(async () => (await deadlocks()) > before, { what: "a deadlock" });
  });
});
