import pg from "pg";
import { isErrorCode } from "../error-codes.js";
import { EmbeddError, configurationError } from "../errors.js";

/**
 * Runs `work`, which calls embedd's SQL functions.
 * @throws EmbeddError of kind `configuration` if they refuse, or the schema or the rights are missing;
 *   `database`/`locked` for a lock timeout
 */
export async function callSchema<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof pg.DatabaseError) {
      if (error.code === "EMBDD") {
        const code = isErrorCode(error.constraint) ? error.constraint : "refused";
        throw configurationError(code, error.message, error.hint);
      }
      if (error.code === "3F000" || error.code === "42P01" || error.code === "42883") {
        throw configurationError(
          "not_migrated",
          "this database has no embedd schema, or an outdated one",
          "embedd migrate",
        );
      }
      if (error.code === "42501") {
        throw configurationError(
          "not_owner",
          `${error.message}: only the table's owner can watch it`,
          'psql -c "\\dt"',
        );
      }
      if (error.code === "55P03") {
        throw new EmbeddError(
          "another transaction has locked the table: its triggers could not be created within 10 s",
          { kind: "database", code: "locked", hint: "try again", cause: error },
        );
      }
    }
    throw error;
  }
}
