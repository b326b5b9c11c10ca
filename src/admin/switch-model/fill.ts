import { setTimeout as sleep } from "node:timers/promises";
import type { ClientBase } from "pg";
import { countBehind, deadKeys, mostPending } from "./backlog.sql.js";
import { deadRows, ended, notWhole } from "./errors.js";
import type { Switch, SwitchCounts, SwitchListener, SwitchSettings } from "./switch.js";
import { readSwitches } from "./switches.sql.js";

/** At most a tenth of the time goes into counting, which reads the index of pending rows. */
const PAUSE_PER_COUNT = 10;

/** How many keys of dead rows an error names. */
const NAMED_KEYS = 10;

/**
 * Waits until the worker of the new model is at most `maxBehind` rows behind, and connected unless none is left.
 * @param texts rows with a text when the switch began
 * @throws EmbeddError with code `dead_rows`, `not_whole` or `no_switch`; the signal's reason
 */
export async function fill(
  client: ClientBase,
  { shadow, relation, pinned }: Switch,
  texts: number,
  { maxBehind, pollMs, force, signal }: SwitchSettings,
  onEvent: SwitchListener,
): Promise<void> {
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
    if (isFilled(running, counts, maxBehind) && counts.pending <= most) {
      if (counts.dead > 0 && !force) {
        throw deadRows(running, counts.dead, await deadKeys(client, shadow, NAMED_KEYS));
      }
      // A column that is pinned to no model would fall to the old model's worker.
      if (pinned || running.served || !running.oldServed) return;
    }
    await pause(Math.max(pollMs, PAUSE_PER_COUNT * (performance.now() - started)), signal);
  }
}

/**
 * Whether few enough rows lack a new vector. They lose their old one in the swap, so a worker must be connected that
 * embeds them at once: otherwise a search in a small table would find nothing.
 */
export function isFilled(
  { served }: Pick<Switch, "served">,
  { behind, dead }: Pick<SwitchCounts, "behind" | "dead">,
  maxBehind: number,
): boolean {
  const left = behind - dead;
  return left <= maxBehind && (left <= 0 || served);
}

/** Waits. @throws the signal's reason */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return sleep(ms, undefined, signal === undefined ? {} : { signal });
}
