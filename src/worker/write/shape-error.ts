import pg from "pg";

/** undefined_table, undefined_column, datatype_mismatch, undefined_object, insufficient_privilege … */
const SHAPE_ERRORS = new Set(["42P01", "42703", "42804", "42704", "42883", "42P16", "42501", "23514"]);

/**
 * Whether a statement failed because the table has changed. Data exceptions count too: those of a row are charged
 * where they happen, so one that gets this far is of our own casts, such as of keys to a column's former type.
 */
export const isShapeError = (error: unknown): boolean => {
  const sqlState = error instanceof pg.DatabaseError ? (error.code ?? "") : "";
  return sqlState.startsWith("22") || SHAPE_ERRORS.has(sqlState);
};
