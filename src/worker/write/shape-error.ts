import pg from "pg";

/** undefined_table, undefined_column, datatype_mismatch, undefined_object, insufficient_privilege … */
const SHAPE_ERRORS = new Set([
  "42P01",
  "42703",
  "42804",
  "42704",
  "42883",
  "42P16",
  "42501",
  "22P02",
  "22023",
]);

/** Whether a statement failed because the table has changed. */
export const isShapeError = (error: unknown): boolean =>
  error instanceof pg.DatabaseError && SHAPE_ERRORS.has(error.code ?? "");
