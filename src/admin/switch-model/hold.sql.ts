import type { ClientBase } from "pg";
import { configurationError } from "../../errors.js";
import { callSchema } from "../../database/call-schema.js";
import { SWITCH_CLASS } from "../../database/advisory-locks.js";

/**
 * Lets one command a column work at a time, until the function that is returned is called. Where all
 * connections share one session, locks tell nothing.
 */
export async function holdSwitch(
  client: ClientBase,
  { relation, embedding }: { relation: string; embedding: string },
): Promise<() => Promise<void>> {
  const { rows } = await callSchema(() =>
    client.query<{ id: number; free: boolean; single: boolean }>(
      `select p.id, single, single or pg_try_advisory_lock(${SWITCH_CLASS}, p.id) as free
       from embedd.pipelines p, coalesce(current_setting('embedd.single_session', true) = 'on', false) as single
       where p.relation = embedd.resolve($1) and p.embedding_column = $2`,
      [relation, embedding],
    ),
  );
  const [row] = rows;
  if (row === undefined) {
    throw configurationError(
      "not_watched",
      `column ${embedding} of ${relation} is not watched`,
      "embedd status",
    );
  }
  if (!row.free) {
    throw configurationError(
      "switch_runs",
      `another embedd switch-model of ${relation} is running, or has just been killed`,
      `embedd switch-model ${relation} --status`,
    );
  }
  // A command that is killed leaves no index build behind that keeps the next one waiting.
  await client.query("set client_connection_check_interval = '1s'").catch(() => undefined);
  return async () => {
    if (!row.single) await client.query(`select pg_advisory_unlock(${SWITCH_CLASS}, $1::integer)`, [row.id]);
  };
}
