import pg from "pg";
import { isErrorCode } from "../error-codes.js";
import { EmbeddError, configurationError } from "../errors.js";

/**
 * Runs `work`, which calls embedd's SQL functions.
 * @throws EmbeddError of kind `configuration` if they refuse, or embedd's schema or a privilege is missing, which
 *   `explainRefusal` explains;
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
    // embedd.refuse() puts what to type in a shell there, if it is not what to type in psql.
    return configurationError(code, error.message, error.column || error.hint);
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
function denied(cause: pg.DatabaseError): EmbeddError {
  return /must be owner/.test(cause.message)
    ? new EmbeddError(`${cause.message}: only the table's owner can do this`, {
        kind: "configuration",
        code: "not_owner",
        cause,
      })
    : new EmbeddError(`${cause.message}: this role lacks the privilege`, {
        kind: "configuration",
        code: "no_privilege",
        cause,
      });
}
