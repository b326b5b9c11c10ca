import { setTimeout as sleep } from "node:timers/promises";
import type { ClientBase } from "pg";
import { buildOn, inTablespace } from "../../database/build-index.sql.js";
import { endJob, takeJob } from "../../database/turns.sql.js";
import { analyzeNewColumns, switchIndexes } from "./indexes.sql.js";
import type { Switch, SwitchIndex } from "./switch.js";

const LOCK_POLL_MS = 200;

/** Builds the missing indexes CONCURRENTLY and resumes interrupted builds. Call within `withIndexesHeld`. */
export async function buildIndexes(
  client: ClientBase,
  running: Switch,
  onBuild: (index: SwitchIndex) => void,
): Promise<void> {
  for (const index of await switchIndexes(client, running)) {
    if (index.state === "ready") continue;
    onBuild(index);
    await inTablespace(client, index.tablespace, () =>
      buildOn(client, index.tableOid, index.name, index.definition),
    );
  }
  await analyzeNewColumns(client, running);
}

/**
 * Keeps workers from building the pipeline's own index at the same time: two CREATE INDEX CONCURRENTLY on one table
 * wait for each other's snapshots. Waiting for the lock in one statement would do the same, so this polls.
 */
export async function withIndexesHeld<T>(
  client: ClientBase,
  shadow: number,
  work: () => Promise<T>,
): Promise<T> {
  while (!(await takeJob(client, shadow, "index"))) await sleep(LOCK_POLL_MS);
  try {
    return await work();
  } finally {
    await endJob(client, shadow, "index");
  }
}
