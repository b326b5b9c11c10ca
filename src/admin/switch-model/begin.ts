import type { ClientBase } from "pg";
import { callSchema } from "../../database/call-schema.js";
import { configurationError } from "../../errors.js";
import { ended, noTarget, notWhole, otherTarget, switchCommand } from "./errors.js";
import type { Switch, SwitchListener, SwitchSettings } from "./switch.js";
import { createShadow, readColumns, readSwitches } from "./switches.sql.js";
import { withTableLock } from "./table-lock.js";

/** Resumes the column's running switch, or adds the new columns and a shadow pipeline that fills them. */
export async function begin(
  client: ClientBase,
  settings: SwitchSettings,
  onEvent: SwitchListener,
): Promise<Switch> {
  const [running] = await readSwitches(client, settings);
  if (running === undefined) {
    const started = await start(client, settings);
    onEvent({ step: "begin", running: started, resumed: false });
    return started;
  }
  if (!running.whole) throw notWhole(running);
  const { model = running.toModel, dimensions = running.toDimensions } = settings;
  if (model !== running.toModel || dimensions !== running.toDimensions) throw otherTarget(running);
  onEvent({ step: "begin", running, resumed: true });
  return running;
}

async function start(client: ClientBase, settings: SwitchSettings): Promise<Switch> {
  const { embedding, model, dimensions, index, dropOld } = settings;
  if (model === undefined || dimensions === undefined) throw noTarget(settings);
  const columns = await readColumns(client, settings);
  if (columns === undefined)
    throw configurationError("no_such_table", `table ${settings.relation} was dropped`, "embedd status");
  const { relation } = columns;
  const indexMethod = index === "none" ? null : (index ?? columns.indexMethod);
  const again = switchCommand(settings, "--model", model, "--dimensions", String(dimensions));
  await callSchema(() =>
    withTableLock(client, relation, again, () =>
      createShadow(client, {
        relation: settings.relation,
        embedding,
        model,
        dimensions,
        indexMethod,
        dropOld,
      }),
    ),
  );
  const [running] = await readSwitches(client, settings);
  if (running === undefined) throw ended(settings.relation);
  return running;
}
