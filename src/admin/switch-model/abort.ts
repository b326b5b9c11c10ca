import type { ClientBase } from "pg";
import { configurationError } from "../../errors.js";
import { callSchema } from "../../database/call-schema.js";
import { INDEX_CLASS } from "../../database/advisory-locks.js";
import { holdSwitch } from "./hold.sql.js";
import { readSwitches } from "./switches.sql.js";
import type { Switch } from "./switches.sql.js";
import { withTableLock } from "./table-lock.js";

/**
 * Ends a switch: what it added goes, and the old pipeline is as before.
 * @throws EmbeddError with code `no_switch` where none is under way
 */
export async function abortSwitch(
  client: ClientBase,
  options: { relation: string; embedding: string },
): Promise<Switch> {
  const release = await holdSwitch(client, options);
  try {
    const [running] = await readSwitches(client, options);
    if (running === undefined) {
      throw configurationError(
        "no_switch",
        `${options.relation} is not being switched`,
        "embedd switch-model --status",
      );
    }
    // A worker may be building its index, which holds the table against ALTER.
    await client.query(
      `select pg_cancel_backend(pid) from pg_locks where pid <> pg_backend_pid() and locktype = 'advisory' and classid = ${INDEX_CLASS}
         and objid = $1 and objsubid = 2 and granted and database = (select oid from pg_database where datname = current_database())`,
      [running.shadow],
    );
    await callSchema(() =>
      withTableLock(client, running.relation, () =>
        client.query("select embedd.abort_switch($1)", [running.shadow]),
      ),
    );
    return running;
  } finally {
    await release();
  }
}
