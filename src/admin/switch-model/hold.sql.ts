import type { ClientBase } from "pg";
import { configurationError } from "../../errors.js";
import { callSchema } from "../../database/call-schema.js";
import { endJob } from "../../database/turns.sql.js";
import { switchCommand } from "./errors.js";

/**
 * Lets only one command at a time work on a column, until the returned function is called. Where all connections
 * share one session, locks cannot tell commands apart, so none is taken.
 * @throws EmbeddError with code `no_such_table` or `not_watched`, or `switch_runs` if another command holds the column
 */
export async function holdSwitch(
  client: ClientBase,
  column: { relation: string; embedding: string },
): Promise<() => Promise<void>> {
  const { rows } = await callSchema(() =>
    client.query<{ id: number; free: boolean; single: boolean }>(
      `
select p.id,
  single,
  single or embedd.take_job(p.id, 'switch') as free
from embedd.pipelines p,
  coalesce(current_setting('embedd.single_session', true) = 'on', false) as single
where p.id in (select embedd.pipelines_of($1, $2))`,
      [column.relation, column.embedding],
    ),
  );
  const [row] = rows;
  if (row?.free !== true) {
    throw configurationError(
      "switch_runs",
      `another embedd switch-model of ${column.relation} is running, or has just been killed`,
      switchCommand(column, "--status"),
    );
  }
  // After this command is killed, its index build must not keep the next command waiting.
  await client.query("set client_connection_check_interval = '1s'").catch(() => undefined);
  return async () => {
    if (!row.single) await endJob(client, row.id, "switch");
  };
}
