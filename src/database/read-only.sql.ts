import pg from "pg";
import type { ClientBase, Pool } from "pg";
import { EmbeddError } from "../errors.js";
import { addressTarget, hostAndPort } from "../database-address.js";
import { addressAt } from "./connection-error.js";
import { isReadOnly } from "./session-error.js";

/** Why a session may not write. */
interface ReadOnly {
  standby: boolean;
  /** Where default_transaction_read_only is from, as in pg_settings; null: it is off. */
  source: string | null;
  database: string;
  role: string;
}

/** On a standby also feature_not_supported (unlogged tables) and object_not_in_prerequisite_state. */
const ONLY_ON_A_STANDBY = new Set(["0A000", "55000"]);

/**
 * Says why the server takes no writes, and what to type. Any other error is returned as it is.
 * @param db outside a failed transaction
 * @param error as PostgreSQL, `callSchema` or `explainConnectionError` raised it
 * @param databaseUrl of `db`, if it is known
 */
export async function explainReadOnly(
  db: Pool | ClientBase,
  error: unknown,
  databaseUrl: string | undefined,
): Promise<unknown> {
  const cause = error instanceof EmbeddError ? error.cause : error;
  if (!(cause instanceof pg.DatabaseError)) return error;
  if (!isReadOnly(cause) && !ONLY_ON_A_STANDBY.has(cause.code ?? "")) return error;
  const found = await readReadOnly(db).catch(() => null);
  if (found === null || (!isReadOnly(cause) && !found.standby)) return error;
  const { message, hint } = describeReadOnly(found, databaseUrl);
  return new EmbeddError(`${message}: ${cause.message}`, {
    kind: "database",
    code: "read_only",
    hint,
    cause,
  });
}

/** Whether new transactions of the session may not write, and why; null: they may. */
export async function findReadOnly(
  db: Pool | ClientBase,
  databaseUrl: string,
): Promise<{ message: string; hint: string } | null> {
  const found = await readReadOnly(db);
  return found.standby || found.source !== null ? describeReadOnly(found, databaseUrl) : null;
}

async function readReadOnly(db: Pool | ClientBase): Promise<ReadOnly> {
  const { rows } = await db.query<ReadOnly>(`
select pg_is_in_recovery() as standby,
  (select source from pg_settings where name = 'default_transaction_read_only' and setting = 'on') as source,
  quote_ident(current_database()) as database,
  quote_ident(session_user) as role`);
  return rows[0] ?? { standby: false, source: null, database: "", role: "" };
}

function describeReadOnly(
  { standby, source, database, role }: ReadOnly,
  databaseUrl: string | undefined,
): { message: string; hint: string } {
  if (standby) {
    const where = databaseUrl === undefined ? "the server" : serverOf(databaseUrl);
    return {
      message: `${where} is a standby, which takes no writes; use the primary`,
      hint:
        databaseUrl === undefined
          ? "connect to the primary"
          : `${addressAt(databaseUrl, "PRIMARY")}  # the primary's host and port`,
    };
  }
  if (source === null)
    return {
      message: "the transaction is read-only",
      hint: "SELECT name, setting, source FROM pg_settings WHERE name LIKE '%read_only';",
    };
  return {
    message: `default_transaction_read_only is on (${source}), so the database takes no writes`,
    hint: cureOf(source, database, role),
  };
}

/** ALTER DATABASE and ALTER ROLE are writes themselves. */
function cureOf(source: string, database: string, role: string): string {
  const object = {
    database: `DATABASE ${database}`,
    user: `ROLE ${role}`,
    "database user": `ROLE ${role} IN DATABASE ${database}`,
  }[source];
  if (object !== undefined)
    return `BEGIN READ WRITE; ALTER ${object} RESET default_transaction_read_only; COMMIT;`;
  if (source === "configuration file")
    return "psql \"$DATABASE_URL\" -c 'ALTER SYSTEM SET default_transaction_read_only = off' -c 'SELECT pg_reload_conf()'";
  return "SELECT name, setting, source FROM pg_settings WHERE name = 'default_transaction_read_only';";
}

function serverOf(databaseUrl: string): string {
  return hostAndPort(addressTarget(databaseUrl));
}
