import pg from "pg";
import type { Pool } from "pg";
import { isolateFailing } from "../../database/isolate.js";
import type { Pipeline, WorkKind } from "../../database/pipeline.js";
import { checkKeys } from "../claim/read-rows.sql.js";
import { nextBatchRows } from "../pace.js";
import type { EmbeddedRow, RefusedRow } from "../rows.js";
import { completeRows } from "./complete.sql.js";
import { functionsIn, namedObjects } from "./refusal-cause.js";
import { findFunctions } from "./triggers.sql.js";

export interface WriteContext {
  pool: Pool;
  pipeline: Pipeline;
  kind: WorkKind;
  /** The model that made the vectors. */
  model: string;
  writePace: WritePace;
  /** Aborted at a stop's deadline. */
  signal: AbortSignal;
}

/** Rows of the next UPDATE, learned from those before it. */
export interface WritePace {
  rows: number;
}

export interface Written {
  /** Key texts. */
  written: Set<string>;
  refused: RefusedRow[];
}

/**
 * Longer UPDATEs are split: an application that wants one of their rows waits until they end. A row of a table
 * with a vector index takes 10 ms, others 0.1 ms.
 */
const WRITE_MS = 250;
const MAX_WRITE_ROWS = 4_096;
/** Small, because the table's speed is not known yet. */
const FIRST_WRITE_ROWS = 32;

export const newWritePace = (): WritePace => ({ rows: FIRST_WRITE_ROWS });

/** Writes vectors, a few rows per statement. Rows in neither list were held, changed or deleted. */
export async function writeRows(
  context: WriteContext,
  leaseId: string,
  rows: readonly EmbeddedRow[],
): Promise<Written> {
  const { writePace } = context;
  const written = new Set<string>();
  const refused: RefusedRow[] = [];
  for (let start = 0; start < rows.length;) {
    const size = writePace.rows;
    const part = nextPart(rows, start, size);
    const started = performance.now();
    const outcome = await isolateRefused(context, leaseId, part);
    const ms = performance.now() - started;
    if (part[0]?.large !== true && (part.length === size || ms > WRITE_MS)) {
      const limits = { targetMs: WRITE_MS, maxRows: MAX_WRITE_ROWS };
      writePace.rows = nextBatchRows(size, { rows: part.length, ms }, limits);
    }
    for (const key of outcome.written) written.add(key);
    refused.push(...outcome.refused);
    start += part.length;
  }
  return { written, refused };
}

/** Up to `size` rows from `start` on; a large row alone. */
function nextPart(rows: readonly EmbeddedRow[], start: number, size: number): readonly EmbeddedRow[] {
  const part = rows.slice(start, start + size);
  const large = part.findIndex((row) => row.large);
  return large < 0 ? part : part.slice(0, Math.max(large, 1));
}

/**
 * Where the table itself refuses a row (a user's trigger, a constraint), halves the rows until that row stands
 * alone, so that it alone is charged. PostgreSQL reports an error before it releases the failed statement's
 * locks, so the next statement, on another connection, may find its rows locked; they are written later.
 * @throws the signal's reason instead of halving, because many refused rows take longer than a stop may last
 */
async function isolateRefused(
  context: WriteContext,
  leaseId: string,
  rows: readonly EmbeddedRow[],
): Promise<Written> {
  const { pool, pipeline, kind, model, signal } = context;
  const { results, failed } = await isolateFailing(
    rows,
    async (part) => {
      // A table that refuses many rows must not keep a stopping worker.
      if (part !== rows) signal.throwIfAborted();
      return [...(await completeRows(pool, pipeline, { kind, leaseId, model, rows: part }))];
    },
    // If a key no longer fits its column, no row is to blame.
    () => checkKeys(pool, pipeline, rows),
    isRowRefusal,
  );
  const refused: RefusedRow[] = [];
  for (const { item, code, error } of failed)
    refused.push({ row: item, code, message: await refusalMessage(context, error) });
  return { written: new Set(results), refused };
}

/** Names the trigger, constraint or type that refused the row. The server's own message may quote the row. */
async function refusalMessage({ pool, pipeline }: WriteContext, error: unknown): Promise<string> {
  const what = "the table refused the UPDATE";
  if (!(error instanceof pg.DatabaseError)) return what;
  const names = functionsIn(error);
  // Without an answer, the objects that the error names must do.
  const functions = names.length === 0 ? [] : await findFunctions(pool, pipeline, names).catch(() => []);
  const causes = [
    ...namedObjects(error),
    ...functions.map(({ name, triggers }) =>
      triggers === null ? `function ${name}` : `trigger ${triggers} (function ${name})`,
    ),
  ];
  return causes.length === 0 ? what : `${what}: ${causes.join(", ")}`;
}

/**
 * SQLSTATE classes about a row: data exception, integrity, triggered action, raised by a trigger, check option, and
 * those of a row that can no longer be read: a limit exceeded, damaged data.
 */
const ROW_CLASSES = new Set(["22", "23", "09", "P0", "44", "54", "XX"]);

/** Whether one row caused the error of an UPDATE. */
export const isRowRefusal = (error: unknown): boolean =>
  error instanceof pg.DatabaseError && error.code !== undefined && ROW_CLASSES.has(error.code.slice(0, 2));
