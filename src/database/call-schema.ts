import pg from "pg";
import { isErrorCode } from "../error-codes.js";
import { EmbeddError, configurationError } from "../errors.js";

/**
 * Runs `work`, which calls embedd's SQL functions.
 * @throws EmbeddError of kind `configuration` if they refuse, or embedd's schema or a privilege is missing;
 *   `database`/`locked` for a lock timeout
 */
export async function callSchema<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw explainSchemaError(error);
  }
}

/** Says in embedd's words what its schema refuses, or that it or a privilege is missing. Any other error stays as it is. */
export function explainSchemaError(error: unknown): unknown {
  if (!(error instanceof pg.DatabaseError)) return error;
  if (error.code === "EMBDD") {
    const code = isErrorCode(error.constraint) ? error.constraint : "refused";
    return configurationError(code, error.message, error.hint);
  }
  if (isSchemaMissing(error)) {
    return configurationError(
      "not_migrated",
      `this database has no embedd schema, or an outdated one: ${error.message}`,
      "embedd migrate",
    );
  }
  if (error.code === "42501") return denied(error);
  if (error.code === "55P03") {
    return new EmbeddError(
      "another transaction has locked the table: its triggers could not be created within 10 s",
      { kind: "database", code: "locked", hint: "try again", cause: error },
    );
  }
  return error;
}

/** invalid_schema_name, undefined_table, undefined_function */
const MISSING = new Set(["3F000", "42P01", "42883"]);

/** Whether an object of embedd's own schema is missing. A message in any language names the object. */
export function isSchemaMissing(error: pg.DatabaseError): boolean {
  return MISSING.has(error.code ?? "") && /\bembedd\b/.test(error.message);
}

/** PostgreSQL's message names what is denied; only its English text tells ownership from a privilege. */
function denied(error: pg.DatabaseError): EmbeddError {
  if (/must be owner/.test(error.message)) {
    return configurationError(
      "not_owner",
      `${error.message}: only the table's owner can do this`,
      'psql -c "\\dt"',
    );
  }
  return /\bembedd\b/.test(error.message)
    ? configurationError("no_privilege", `${error.message}: connect as the role that ran embedd migrate`)
    : configurationError("no_privilege", `${error.message}: grant it to this role`, 'psql -c "\\dn+"');
}
