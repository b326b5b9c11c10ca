import { setTimeout } from "node:timers/promises";
import pg from "pg";
import type { ClientBase } from "pg";
import { EmbeddError, configurationError } from "../../errors.js";
import { buildIndex } from "../../database/build-index.sql.js";
import { callSchema } from "../../database/call-schema.js";
import { holdSwitch } from "./hold.sql.js";
import { buildSwitchIndexes, withIndexesHeld } from "./indexes.sql.js";
import type { SwitchIndex } from "./indexes.sql.js";
import { countBehind, countTexts, deadKeys, mostPending, readSwitches } from "./switches.sql.js";
import type { Switch, SwitchCounts } from "./switches.sql.js";
import { withTableLock } from "./table-lock.js";

export interface SwitchOptions {
  relation: string;
  embedding: string;
  /** Where to; may be left out where a switch is under way, which then goes on. */
  model?: string | undefined;
  dimensions?: number | undefined;
  /** The pipeline's own index of the new column. @default as the old column's */
  index?: "hnsw" | "none" | undefined;
  /** Swap while at most this many rows have an old vector but no new one. @default 100 */
  maxBehind?: number;
  /** Swap although rows are dead under the new model; they are then without a vector. */
  force?: boolean;
  /** The old columns go in the swap. */
  dropOld?: boolean;
  /** Between two looks at the backlog. @default 1000 */
  pollMs?: number;
  /** Ends waiting for the backlog. */
  signal?: AbortSignal | undefined;
}

export type SwitchEvent =
  | { step: "begin"; running: Switch; resumed: boolean }
  | { step: "fill"; running: Switch; counts: SwitchCounts; texts: number; mostPending: number }
  | { step: "index"; running: Switch; index: SwitchIndex }
  | { step: "swap"; running: Switch };

export interface SwitchResult {
  running: Switch;
  /** For how long the swap held its lock. */
  lockedMs: number;
  /** The old columns' new names, quoted; null where they were dropped. */
  previous: string[] | null;
}

/**
 * Switches an embedding column to another model or dimension while everything goes on: new columns beside the
 * old, filled by a worker of the new model; their indexes; and a transaction that swaps the names. All state is
 * in the database and every step may be repeated, so that it goes on where an earlier run was cut off.
 * @param client of the table's owner, outside a transaction
 * @throws EmbeddError of kind `configuration` where the switch cannot be or another one is under way;
 *   code `dead_rows` where rows have failed for good with the new model; code `locked`
 */
export async function switchModel(
  client: ClientBase,
  options: SwitchOptions,
  onEvent: (event: SwitchEvent) => void = () => undefined,
): Promise<SwitchResult> {
  const release = await holdSwitch(client, options);
  try {
    const running = await beginSwitch(client, options, onEvent);
    return await withIndexesHeld(client, running, () => fillAndSwap(client, running, options, onEvent));
  } finally {
    await release();
  }
}

async function fillAndSwap(
  client: ClientBase,
  running: Switch,
  options: SwitchOptions,
  onEvent: (event: SwitchEvent) => void,
): Promise<SwitchResult> {
  await buildIndex(client, running.shadow, "pending");
  const texts = await countTexts(client, running.shadow);
  for (;;) {
    await fill(client, running, texts, options, onEvent);
    await buildSwitchIndexes(client, running, (index) => {
      onEvent({ step: "index", running, index });
    });
    options.signal?.throwIfAborted();
    onEvent({ step: "swap", running });
    const result = await swap(client, running, options);
    if (result !== null) return result;
    await pause(options.pollMs ?? 1_000, options.signal);
  }
}

async function beginSwitch(
  client: ClientBase,
  options: SwitchOptions,
  onEvent: (event: SwitchEvent) => void,
): Promise<Switch> {
  const { model, dimensions } = options;
  const [there] = await readSwitches(client, options);
  if (there !== undefined) {
    if (!there.whole) throw notWhole(there);
    if (
      (model !== undefined && model !== there.toModel) ||
      (dimensions !== undefined && dimensions !== there.toDimensions)
    ) {
      throw configurationError(
        "switching",
        `${there.relation} is being switched to ${there.toModel} with ${there.toDimensions} dimensions`,
        `embedd switch-model ${there.relation} --abort`,
      );
    }
    onEvent({ step: "begin", running: there, resumed: true });
    return there;
  }
  if (model === undefined || dimensions === undefined) {
    throw configurationError(
      "no_target",
      "to which model, and to how many dimensions?",
      "--model … --dimensions …",
    );
  }
  const { rows } = await client.query<{ relation: string; index: string | null }>(
    `select format('%I.%I', n.nspname, c.relname) as relation, p.index_method as index
     from embedd.pipelines p join pg_class c on c.oid = p.relation join pg_namespace n on n.oid = c.relnamespace
     where p.relation = embedd.resolve($1) and p.embedding_column = $2`,
    [options.relation, options.embedding],
  );
  const index =
    options.index === undefined ? rows[0]?.index : options.index === "none" ? null : options.index;
  await callSchema(() =>
    withTableLock(client, rows[0]?.relation ?? options.relation, () =>
      client.query("select embedd.begin_switch($1, $2, $3, $4, $5, $6)", [
        options.relation,
        options.embedding,
        model,
        dimensions,
        index,
        options.dropOld ?? false,
      ]),
    ),
  );
  const [running] = await readSwitches(client, options);
  if (running === undefined) throw ended(options.relation);
  onEvent({ step: "begin", running, resumed: false });
  return running;
}

/** Waits until the worker of the new model is at most `maxBehind` rows behind. */
async function fill(
  client: ClientBase,
  { shadow, relation, pinned }: Switch,
  texts: number,
  options: SwitchOptions,
  onEvent: (event: SwitchEvent) => void,
): Promise<void> {
  const { maxBehind = 100, pollMs = 1_000, signal } = options;
  for (;;) {
    const running = (await readSwitches(client)).find((s) => s.shadow === shadow);
    if (running === undefined) throw ended(relation);
    if (!running.whole) throw notWhole(running);
    const started = performance.now();
    const counts = await countBehind(client, shadow);
    const most = await mostPending(client, shadow, maxBehind);
    onEvent({
      step: "fill",
      running,
      counts,
      texts: Math.max(texts, counts.pending),
      mostPending: most,
    });
    if (counts.behind - counts.dead <= maxBehind && counts.pending <= most) {
      if (counts.dead > 0 && options.force !== true) throw await deadRows(client, running, counts.dead);
      // Pinned to nothing, the column would go to the old model's worker.
      if (pinned || running.served || !running.oldServed) return;
    }
    // Counting reads the index of what waits; it may take a tenth of the time.
    const ms = Math.max(pollMs, 10 * (performance.now() - started));
    await pause(ms, signal);
  }
}

const pause = (ms: number, signal: AbortSignal | undefined): Promise<void> =>
  setTimeout(ms, undefined, signal === undefined ? {} : { signal });

/** lock_not_available, deadlock_detected: somebody was in the way of the transaction. */
const PASSING = new Set(["55P03", "40P01"]);

/** Null: somebody was in the way, or writers have been faster than the worker; wait again. */
async function swap(
  client: ClientBase,
  running: Switch,
  { maxBehind = 100, force = false, dropOld = false }: SwitchOptions,
): Promise<SwitchResult | null> {
  const { rows } = await client.query<{ names: string[] }>(
    `select array(select quote_ident(embedd.with_suffix(name, '_previous')) from unnest($1::text[]) with ordinality u (name, ord) order by ord) as names`,
    [[running.embedding, running.modelColumn]],
  );
  // What is dead in the index of waiting rows is marked here, and not under the lock.
  await countBehind(client, running.shadow);
  return callSchema(async () => {
    try {
      const { lockedMs } = await withTableLock(client, running.relation, () =>
        client.query("select embedd.finish_switch($1, $2, $3, $4)", [
          running.shadow,
          maxBehind,
          force,
          dropOld,
        ]),
      );
      return { running, lockedMs, previous: dropOld ? null : (rows[0]?.names ?? null) };
    } catch (error) {
      if (!(error instanceof pg.DatabaseError)) throw error;
      if (error.code === "57014") throw tooSlow(running, error);
      if (error.constraint === "behind" || PASSING.has(error.code ?? "")) return null;
      throw error;
    }
  });
}

async function deadRows(client: ClientBase, { shadow, toModel }: Switch, dead: number): Promise<EmbeddError> {
  const keys = await deadKeys(client, shadow, 10);
  return configurationError(
    "dead_rows",
    `${dead} rows could not be embedded with ${toModel} and would be without a vector: ${keys.join(", ")}${dead > keys.length ? ", …" : ""}`,
    "embedd failures --dead; then embedd retry, or embedd switch-model … --force",
  );
}

/** query_canceled: by the limit of `withTableLock`, or by somebody. To try again each second would be an outage. */
const tooSlow = ({ relation }: Switch, cause: unknown): EmbeddError =>
  new EmbeddError(`the swap of ${relation} was cut off, and taken back: it held its lock for too long`, {
    kind: "database",
    code: "slow_swap",
    hint: "run it again when the server has less to do; it goes on where it was",
    cause,
  });

const notWhole = ({ relation }: Switch): EmbeddError =>
  configurationError(
    "not_whole",
    `a column that the switch of ${relation} needs is gone`,
    `embedd switch-model ${relation} --abort`,
  );

const ended = (relation: string): EmbeddError =>
  configurationError("no_switch", `the switch of ${relation} was ended meanwhile`, "embedd status");
