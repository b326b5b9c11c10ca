import pg from "pg";
import type { ClientBase } from "pg";
import { callSchema } from "../../database/call-schema.js";
import { countBehind } from "./backlog.sql.js";
import { slowSwap, switchCommand } from "./errors.js";
import type { Switch, SwitchResult, SwitchSettings } from "./switch.js";
import { previousNames, swapColumns } from "./switches.sql.js";
import { withTableLock } from "./table-lock.js";

/** lock_not_available, deadlock_detected: another session was in the way. */
const PASSING = new Set(["55P03", "40P01"]);

/** query_canceled: the statement timeout of `withTableLock`, or an administrator. */
const CANCELED = "57014";

/**
 * Gives the new columns the old ones' names in one transaction.
 * @returns null if another session was in the way, or writers were faster than the worker: wait and try again
 * @throws EmbeddError with code `slow_swap` or `locked`
 */
export async function swap(
  client: ClientBase,
  running: Switch,
  settings: SwitchSettings,
): Promise<SwitchResult | null> {
  const previous = settings.dropOld
    ? null
    : await previousNames(client, [running.embedding, running.modelColumn]);
  // Marks dead entries in the index of pending rows now, rather than under the lock.
  await countBehind(client, running.shadow);
  return callSchema(async () => {
    try {
      const { lockedMs } = await withTableLock(client, running.relation, switchCommand(running), () =>
        swapColumns(client, running.shadow, settings),
      );
      return { running, lockedMs, previous };
    } catch (error) {
      if (!(error instanceof pg.DatabaseError)) throw error;
      if (error.code === CANCELED) throw slowSwap(running, error);
      if (error.constraint === "behind" || PASSING.has(error.code ?? "")) return null;
      throw error;
    }
  });
}
