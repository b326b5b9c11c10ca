import type { ClientBase } from "pg";
import { withoutTimeLimits } from "../../database/maintenance.sql.js";
import { buildIndex } from "../../database/build-index.sql.js";
import { countTexts } from "./backlog.sql.js";
import { begin } from "./begin.js";
import { buildIndexes, withIndexesHeld } from "./build-indexes.js";
import { fill, pause } from "./fill.js";
import { holdSwitch } from "./hold.sql.js";
import { SWITCH_DEFAULTS } from "./switch.js";
import type { Switch, SwitchListener, SwitchOptions, SwitchResult, SwitchSettings } from "./switch.js";
import { swap } from "./swap.js";

/**
 * Switches an embedding column to another model or dimension while applications keep reading and writing:
 * begin adds new columns alongside the old ones, a worker of the new model fills them, their indexes are built, and
 * one short transaction swaps the names. All state is in the database and every step can be repeated, so calling
 * this again resumes an interrupted switch.
 * @param client of the table's owner, outside a transaction
 * @throws EmbeddError of kind `configuration` if the switch is impossible or another command runs it; with code
 *   `dead_rows` if rows are dead under the new model; with code `locked` if the table's lock cannot be had; with
 *   code `slow_swap` if the swap held its lock for too long. Throws the signal's reason if it stops the switch.
 */
export function switchModel(
  client: ClientBase,
  options: SwitchOptions,
  onEvent: SwitchListener = () => undefined,
): Promise<SwitchResult> {
  return withoutTimeLimits(client, () => runSwitch(client, { ...SWITCH_DEFAULTS, ...options }, onEvent));
}

async function runSwitch(
  client: ClientBase,
  settings: SwitchSettings,
  onEvent: SwitchListener,
): Promise<SwitchResult> {
  const release = await holdSwitch(client, settings);
  try {
    const running = await begin(client, settings, onEvent);
    return await withIndexesHeld(client, running.shadow, () =>
      fillAndSwap(client, running, settings, onEvent),
    );
  } finally {
    await release();
  }
}

async function fillAndSwap(
  client: ClientBase,
  running: Switch,
  settings: SwitchSettings,
  onEvent: SwitchListener,
): Promise<SwitchResult> {
  await buildIndex(client, running.shadow, "pending");
  const texts = await countTexts(client, running.shadow);
  for (;;) {
    await fill(client, running, texts, settings, onEvent);
    await buildIndexes(client, running, (index) => {
      onEvent({ step: "index", running, index });
    });
    settings.signal?.throwIfAborted();
    onEvent({ step: "swap", running });
    const result = await swap(client, running, settings);
    if (result !== null) return result;
    await pause(settings.pollMs, settings.signal);
  }
}
