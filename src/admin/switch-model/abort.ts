import type { ClientBase } from "pg";
import { configurationError } from "../../errors.js";
import { callSchema } from "../../database/call-schema.js";
import { withoutTimeLimits } from "../../database/maintenance.sql.js";
import { switchCommand } from "./errors.js";
import { holdSwitch } from "./hold.sql.js";
import { cancelIndexBuild } from "./indexes.sql.js";
import type { Switch } from "./switch.js";
import { dropShadow, readSwitches } from "./switches.sql.js";
import { withTableLock } from "./table-lock.js";

/**
 * Ends a switch and drops everything it added; the old pipeline is as it was before.
 * @param client of the table's owner, outside a transaction
 * @throws EmbeddError with code `no_switch` if none is running, `switch_runs` if a command still works on it,
 *   `locked` if the table's lock cannot be had
 */
export function abortSwitch(
  client: ClientBase,
  column: { relation: string; embedding: string },
): Promise<Switch> {
  return withoutTimeLimits(client, () => undo(client, column));
}

async function undo(client: ClientBase, column: { relation: string; embedding: string }): Promise<Switch> {
  const release = await holdSwitch(client, column);
  try {
    const [running] = await readSwitches(client, column);
    if (running === undefined) {
      throw configurationError(
        "no_switch",
        `${column.relation} is not being switched`,
        "embedd switch-model --status",
      );
    }
    await cancelIndexBuild(client, running.shadow);
    await callSchema(() =>
      withTableLock(client, running.relation, switchCommand(running, "--abort"), () =>
        dropShadow(client, running.shadow),
      ),
    );
    return running;
  } finally {
    await release();
  }
}
