import pg from "pg";
import type { ClientBase, Pool } from "pg";
import { EmbeddError } from "../errors.js";
import type { ErrorCode } from "../error-codes.js";
import { shellWord } from "../shell-word.js";
import { callSchema } from "./call-schema.js";
import { addressAs } from "./connection-error.js";
import { explainReadOnly } from "./read-only.sql.js";

/** What a refused role is to embedd. */
interface Standing {
  role: string;
  /** Who migrated the schema. */
  schemaOwner: string;
  maySeeSchema: boolean;
  isWorker: boolean;
  managesTables: boolean;
  /** Whether the object that the server names is in embedd's schema. */
  isOurs: boolean;
  /** Who owns that object elsewhere; null: unknown, or several objects have the name. */
  objectOwner: string | null;
  quotedRole: string;
}

/** insufficient_privilege */
const DENIED = "42501";
const NAMED = /(?:permission denied for|must be owner of) (?:materialized |foreign )?(\w+) (.+)$/;

/**
 * Says what a role was refused by PostgreSQL, and what to type by whom; also that the server takes no writes. Any other
 * error is returned as it is.
 * @param db of the refused role, outside a failed transaction
 * @param error as PostgreSQL or `callSchema` raised it
 * @param databaseUrl of `db`, if it is known
 */
export async function explainRefusal(
  db: Pool | ClientBase,
  error: unknown,
  databaseUrl: string | undefined,
): Promise<unknown> {
  const refusal = error instanceof EmbeddError ? error.cause : error;
  if (!(refusal instanceof pg.DatabaseError) || refusal.code !== DENIED)
    return explainReadOnly(db, error, databaseUrl);
  // Only English messages tell the kind of the object.
  const [, kind = "", name = ""] = NAMED.exec(refusal.message) ?? [];
  const standing = await findStanding(db, kind, name).catch(() => undefined);
  return standing === undefined ? error : explain(refusal, { ...standing, kind, name, databaseUrl });
}

/**
 * Runs `work`, which calls embedd's SQL functions as the role of `db`.
 * @throws EmbeddError as `callSchema`
 */
export async function callSchemaAs<T>(
  db: Pool | ClientBase,
  databaseUrl: string | undefined,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await callSchema(work);
  } catch (error) {
    throw await explainRefusal(db, error, databaseUrl);
  }
}

async function findStanding(
  db: Pool | ClientBase,
  kind: string,
  name: string,
): Promise<Standing | undefined> {
  const { rows } = await db.query<Standing>(
    `
select current_user as role,
  quote_ident(current_user) as "quotedRole",
  pg_get_userbyid(n.nspowner) as "schemaOwner",
  has_schema_privilege(n.oid, 'USAGE') as "maySeeSchema",
  coalesce((
    select has_table_privilege(c.oid, 'INSERT')
    from pg_class c
    where c.relnamespace = n.oid and c.relname = 'leases'), false) as "isWorker",
  coalesce((
    select bool_or(has_function_privilege(f.oid, 'EXECUTE'))
    from pg_proc f
    where f.pronamespace = n.oid and f.proname = 'watch_for_owner'), false) as "managesTables",
  ($1 = 'schema' and $2 = 'embedd')
    or ($1 in ('table', 'view', 'sequence')
      and exists (select from pg_class c where c.relnamespace = n.oid and c.relname = $2)
      and not exists (select from pg_class c where c.relname = $2 and c.relnamespace <> n.oid))
    or ($1 in ('function', 'procedure')
      and exists (select from pg_proc f where f.pronamespace = n.oid and f.proname = $2)) as "isOurs",
  case
    when $1 = 'schema' then (select pg_get_userbyid(s.nspowner) from pg_namespace s where s.nspname = $2)
    else (
      select min(pg_get_userbyid(c.relowner))
      from pg_class c
      where c.relname = $2
      having count(*) = 1)
  end as "objectOwner"
from pg_namespace n
where n.nspname = 'embedd'`,
    [kind, name],
  );
  return rows[0];
}

type Refused = Standing & { kind: string; name: string; databaseUrl: string | undefined };

function explain(cause: pg.DatabaseError, refused: Refused): EmbeddError {
  const { role, schemaOwner, objectOwner, kind, name, databaseUrl } = refused;
  const fail = (code: ErrorCode, message: string, hint: string): EmbeddError =>
    new EmbeddError(`${message}: ${cause.message}`, { kind: "configuration", code, hint, cause });
  const as = (owner: string): string =>
    databaseUrl === undefined ? `connect as ${owner}` : addressAs(databaseUrl, owner);

  if (cause.message.startsWith("must be owner"))
    return fail(
      "not_owner",
      `only the owner${objectOwner === null ? "" : `, ${objectOwner},`} can do this, and this role is ${role}`,
      objectOwner === null ? `psql "$DATABASE_URL" -c '\\dt *.*'` : as(objectOwner),
    );
  if (!refused.maySeeSchema || (refused.isOurs && !refused.isWorker && !refused.managesTables)) {
    const word = shellWord(role);
    return fail(
      "no_privilege",
      `role ${role} has no rights in embedd's schema, which role ${schemaOwner} owns`,
      `embedd grant --owner ${word}  # as ${schemaOwner}: lets ${role} watch and manage the tables that it owns\n` +
        `embedd grant ${word}  # as ${schemaOwner}: lets ${role} run the worker`,
    );
  }
  if (refused.isOurs || kind === "")
    return fail("no_privilege", `role ${role} may not do this, but role ${schemaOwner} may`, as(schemaOwner));
  const privilege = { schema: "USAGE", function: "EXECUTE", sequence: "USAGE" }[kind] ?? "SELECT";
  const object = kind === "table" || kind === "view" ? "" : `${kind.toUpperCase()} `;
  return fail(
    "no_privilege",
    `role ${role} lacks a privilege on ${kind} ${name}`,
    `GRANT ${privilege} ON ${object}${quoted(name)} TO ${refused.quotedRole};  -- as ${objectOwner ?? "its owner"}`,
  );
}

const quoted = (name: string): string => (/^[a-z_][a-z0-9_]*$/.test(name) ? name : pg.escapeIdentifier(name));
