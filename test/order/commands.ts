import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { setPaused } from "#embedd/admin/pause.sql.js";
import { repair } from "#embedd/admin/repair.js";
import {
  emptyCache,
  pipelinesOf,
  startReembedding,
  startRefresh,
  stopReembedding,
} from "#embedd/admin/request-reembed.sql.js";
import { grantWorker, revokeWorker } from "#embedd/admin/roles.sql.js";
import { readStatus } from "#embedd/admin/status.sql.js";
import { abortSwitch } from "#embedd/admin/switch-model/abort.js";
import { switchModel } from "#embedd/admin/switch-model/switch-model.js";
import { uninstall } from "#embedd/admin/uninstall.js";
import { unwatch, watch } from "#embedd/admin/watch.js";
import { callSchema } from "#embedd/database/call-schema.js";
import { createPool } from "#embedd/database/pool.js";
import { EmbeddError, messageOf } from "#embedd/errors.js";
import { between, pick } from "../faults/random.js";
import type { Random } from "../faults/random.js";
import { burst } from "./application.js";
import { trustMismatches } from "./checker.js";
import { DIMENSIONS, MODELS, install } from "./stage.js";
import { Violation, nameOf, quote } from "./table.js";
import type { World } from "./table.js";

/** A documented command of embedd. Its answer describes what was done. */
export type Command = (world: World, random: Random) => Promise<string>;

/** Not a measure of speed either: far longer than any lock timeout of embedd. */
const COMMAND_MS = 120_000;

type Existing = "keep" | "refresh" | undefined;

function anExisting(random: Random): Existing {
  const choice = pick(random, ["keep", "refresh", "refresh", "none"] as const);
  return choice === "none" ? undefined : choice;
}

async function withPool<T>(world: World, work: (pool: pg.Pool) => Promise<T>): Promise<T> {
  const pool = createPool({ connectionString: world.stage.url, applicationName: "order pool", max: 2 });
  try {
    return await callSchema(() => work(pool));
  } finally {
    await pool.end();
  }
}

/** After a command with this choice, the owner trusts vectors that do not match. */
async function chosen(world: World, existing: Existing): Promise<void> {
  if (existing === "refresh") world.trusted.clear();
  if (existing === "keep") await trustMismatches(world);
}

const watchIt: Command = async (world, random) => {
  const { table, stage } = world;
  const { title, body } = table;
  const content = pick(random, [[body], [body], [title, body], [title]]);
  const template =
    random() < 0.6
      ? undefined
      : pick(
          random,
          content.length === 2 ? [`{${title}}: {${body}}`, `{${body}}!`] : [`about {${content[0] ?? ""}}`],
        );
  const existing = anExisting(random);
  const index = random() < 0.3 ? "hnsw" : undefined;
  const what = `${nameOf(table)} --content ${content.join(",")} ${template === undefined ? "" : `--template '${template}' `}${existing === undefined ? "" : `--existing ${existing}`} ${index ?? ""}`;
  world.lines.push(`    watch ${what}`);
  await watch(stage.admin, {
    relation: nameOf(table),
    content,
    template,
    existing,
    index,
    embedding: table.embedding,
    modelColumn: table.model,
    createColumns: random() < 0.2 ? DIMENSIONS : undefined,
  });
  world.watched = true;
  await chosen(world, existing);
  return "watched";
};

const unwatchIt: Command = async (world, random) => {
  await unwatch(world.stage.admin, nameOf(world.table), {
    embedding: random() < 0.3 ? world.table.embedding : undefined,
  });
  world.watched = false;
  return "";
};

const repairIt: Command = async (world, random) => {
  const existing = anExisting(random);
  world.lines.push(`    repair --existing ${existing ?? "(none)"}`);
  await repair(world.stage.admin, { relation: nameOf(world.table), existing });
  await chosen(world, existing);
  return `--existing ${existing ?? "(none)"}`;
};

const pause =
  (paused: boolean): Command =>
  async (world) =>
    `${await withPool(world, (pool) => setPaused(pool, nameOf(world.table), undefined, paused))} pipelines`;

const reembed: Command = (world, random) => {
  const how = pick(random, ["stale", "all", "all --empty-cache", "stop"]);
  return withPool(world, async (pool) => {
    const ids = await pipelinesOf(pool, random() < 0.5 ? nameOf(world.table) : undefined);
    if (how === "stop") return `stopped ${JSON.stringify(await stopReembedding(pool, ids))}`;
    const served = (await readStatus(pool))
      .filter(({ error, gap }) => error === null || (gap !== null && error.includes(gap)))
      .map(({ pipeline }) => pipeline);
    const chosenIds = ids.filter((id) => served.includes(id));
    if (how === "stale") await startReembedding(pool, chosenIds);
    else {
      if (how !== "all") await emptyCache(pool, chosenIds);
      await startRefresh(pool, chosenIds);
    }
    return `${how} of ${chosenIds.join(", ")}`;
  });
};

const switchIt: Command = async (world, random) => {
  const model = pick(random, MODELS);
  const giveUp = AbortSignal.timeout(random() < 0.4 ? between(random, 1, 300) : 8_000);
  world.lines.push(`    switch-model --model ${model}`);
  try {
    const { previous } = await switchModel(world.stage.admin, {
      relation: nameOf(world.table),
      embedding: world.table.embedding,
      model,
      dimensions: DIMENSIONS,
      dropOld: random() < 0.5,
      pollMs: 50,
      signal: giveUp,
    });
    world.held = [];
    return `switched to ${model}, ${previous === null ? "dropped the old columns" : `kept ${previous.join(", ")}`}`;
  } catch (error) {
    if (!giveUp.aborted || error instanceof EmbeddError || error instanceof pg.DatabaseError) throw error;
    return `stopped on the way to ${model}`;
  }
};

const abort: Command = async (world) => {
  await abortSwitch(world.stage.admin, { relation: nameOf(world.table), embedding: world.table.embedding });
  return "";
};

const grant: Command = async (world) => {
  await grantWorker(world.stage.admin, world.stage.workerRole);
  world.granted = true;
  return "";
};

const revoke: Command = async (world) => {
  await revokeWorker(world.stage.admin, world.stage.workerRole);
  world.granted = false;
  return "";
};

const uninstallIt: Command = async (world) => {
  const tables = await uninstall(world.stage.admin, { dropColumns: false, dropChunks: false });
  Object.assign(world, { installed: false, watched: false, granted: false });
  return tables.join(", ");
};

const installIt: Command = async (world) => {
  await install(world.stage.url);
  world.installed = true;
  await grantWorker(world.stage.admin, world.stage.workerRole);
  world.granted = true;
  return "and granted";
};

const restartWorker: Command = async (world, random) => {
  const model = pick(random, MODELS);
  const { stage } = world;
  if (stage.running(model)) {
    await stage.stopWorker(model);
    if (random() < 0.5) return `stopped ${model}`;
  }
  if (!world.installed || !world.granted) return `${model} cannot start`;
  await stage.startWorker(model);
  return `started ${model}`;
};

const cutWorkers: Command = async ({ stage }) => {
  const { rowCount } = await stage.observer.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1 and random() < 0.6",
    [stage.workerRole],
  );
  return `${rowCount ?? 0} connections`;
};

const dropIndex: Command = async (world) => {
  const { rows } = await world.stage.admin.query<{ name: string }>(
    `select format('%I.%I', n.nspname, x.relname) as name from pg_index i
     join pg_class x on x.oid = i.indexrelid join pg_namespace n on n.oid = x.relnamespace
     where i.indrelid = to_regclass($1) and x.relname ~ '^embedd_.*pending$'`,
    [nameOf(world.table)],
  );
  for (const { name } of rows) await world.stage.admin.query(`drop index if exists ${name}`);
  return rows.map(({ name }) => quote(name)).join(", ");
};

export const COMMANDS: Record<string, { weight: number; command: Command }> = {
  watch: { weight: 12, command: watchIt },
  unwatch: { weight: 4, command: unwatchIt },
  repair: { weight: 6, command: repairIt },
  pause: { weight: 2, command: pause(true) },
  resume: { weight: 3, command: pause(false) },
  reembed: { weight: 5, command: reembed },
  "switch-model": { weight: 5, command: switchIt },
  "switch-model --abort": { weight: 2, command: abort },
  grant: { weight: 2, command: grant },
  "grant --revoke": { weight: 1, command: revoke },
  uninstall: { weight: 2, command: uninstallIt },
  migrate: { weight: 3, command: installIt },
  "restart a worker": { weight: 3, command: restartWorker },
  "cut the workers' connections": { weight: 1, command: cutWorkers },
  "drop the index": { weight: 1, command: dropIndex },
};

/** Refusals may say how to go on in words, but they must say it. */
function checkRefusal(name: string, error: unknown): string {
  if (error instanceof Violation) throw error;
  if (!(error instanceof EmbeddError))
    throw new Violation(
      `${name} failed with an error that is not embedd's: ${messageOf(error)} ${
        error instanceof pg.DatabaseError
          ? `${error.code ?? ""} ${error.where ?? ""}`
          : ((error as Error).stack ?? "")
      }`,
      { cause: error },
    );
  if (error.hint === undefined || error.hint === "")
    throw new Violation(`${name} was refused without advice: ${error.code}: ${error.message}`);
  return `refused (${error.code}): ${error.message} | ${error.hint}`;
}

/** Runs a command, half of the time while the application writes. It ends in time, and says what to type if refused. */
export async function runCommand(
  world: World,
  name: string,
  command: Command,
  random: Random,
): Promise<string> {
  const state = { over: false };
  const writes =
    world.table.exists && random() < 0.5 ? burst(world, random, () => state.over) : Promise.resolve("");
  const work = command(world, random)
    .catch((error: unknown) => checkRefusal(name, error))
    .finally(() => (state.over = true));
  // The burst's own failure is thrown after the command.
  writes.catch(() => undefined);
  const answer = await Promise.race([work, sleep(COMMAND_MS, null, { ref: false })]);
  if (answer === null) {
    state.over = true;
    work.catch(() => undefined);
    throw new Violation(`${name} did not end within ${COMMAND_MS} ms:\n${await activity(world)}`);
  }
  return `${answer} ${await writes}`;
}

export async function activity(world: World): Promise<string> {
  const { rows } = await world.stage.observer.query<{ line: string }>(
    `select format('%s %s %s %s: %s', pid, application_name, state, pg_blocking_pids(pid), regexp_replace(left(query, 200), '\s+', ' ', 'g')) as line
     from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'`,
  );
  return rows.map(({ line }) => `  ${line}`).join("\n");
}
