import pg from "pg";
import type { Pool } from "pg";
import type { Provider, UsageMeter } from "../providers/provider.js";
import type { Claim, ClaimedRow, RowVersion } from "./claim/claim.sql.js";
import { complete, stillWaiting } from "./write/complete.sql.js";
import type { EmbeddedRow } from "./write/complete.sql.js";
import { chargeFailure } from "./write/failures.sql.js";
import { releaseLease, trimLease } from "./claim/leases.sql.js";
import type { Pipeline, WorkKind } from "../database/pipeline.js";
import { nextBatchRows } from "./pace.js";
import { embedBatch } from "./embed/isolate-refused.js";
import type { Reuse } from "./embed/reuse.js";
import { isBlank, renderTemplate } from "./embed/template.js";
import type { Template } from "./embed/template.js";

export interface BatchContext {
  pool: Pool;
  pipeline: Pipeline;
  kind: WorkKind;
  template: Template;
  provider: Provider;
  meter: UsageMeter;
  reuse: Reuse;
  retry: { maxAttempts: number; baseDelayMs: number; maxDelayMs: number };
  /** What batches have taught. */
  memory: { writeRows: number };
  /** Ends computing at the shutdown's deadline. */
  signal: AbortSignal;
}

export interface BatchOutcome {
  written: number;
  failed: number;
  /** Embedded, but locked by an application; still leased. */
  locked: EmbeddedRow[];
  /** Texts that the model was given; the other rows took a vector that was kept. */
  computed: number;
  /** Rows that were more to compute than was expected. */
  givenBack: number;
  embedMs: number;
}

/** What became of rows whose vectors are there. */
export type FinishOutcome = Pick<BatchOutcome, "written" | "failed" | "locked">;

interface Refused {
  row: RowVersion;
  code: string;
  message: string;
}

/**
 * From leased rows to vectors in the table. What throws has given its lease back.
 * @param maxComputed gives back the rows that would be computed beyond so many
 */
export async function processBatch(
  context: BatchContext,
  claim: Claim,
  maxComputed: number,
): Promise<BatchOutcome> {
  try {
    const started = performance.now();
    const { embedded, failed, computed, keep } = await embedRows(context, claim.rows, maxComputed);
    const givenBack = claim.rows.length - embedded.length - failed.length;
    const embedMs = performance.now() - started;
    const [outcome] = await Promise.all([
      finishRows(context, claim.leaseId, embedded, failed, givenBack > 0),
      keep(),
    ]);
    return { ...outcome, computed, givenBack, embedMs };
  } catch (error) {
    // If the database is what failed, the lease ends with our presence or by time.
    await releaseLease(context.pool, claim.leaseId).catch(() => undefined);
    throw error;
  }
}

/**
 * Writes what can be written and charges what cannot; the lease keeps only the rows that are locked. Called
 * again for those until none is left.
 */
export async function finishRows(
  context: BatchContext,
  leaseId: string,
  embedded: readonly EmbeddedRow[],
  failed: readonly Refused[] = [],
  leaseHasMore = false,
): Promise<FinishOutcome> {
  const { written, refused } = await writeRows(context, leaseId, embedded);
  const charged = [...failed, ...refused];
  for (const { row, code, message } of charged) {
    await chargeFailure(context.pool, context.pipeline.id, row, {
      kind: context.kind,
      ...context.retry,
      code,
      message,
    });
  }
  const settled = new Set([...written, ...charged.map(({ row }) => row.keyText)]);
  const left = embedded.filter((row) => !settled.has(row.keyText));
  const locked = await keepLocked(context, leaseId, left, leaseHasMore || charged.length > 0);
  return { written: written.size, failed: charged.length, locked };
}

/**
 * An UPDATE that takes longer is cut: an application that wants one of its rows waits until it ends. Rows of a
 * table with a vector index take 10 ms each, others 0.1.
 */
const WRITE_MS = 250;
const MAX_WRITE_ROWS = 4_096;
/** Rows of the first UPDATE, when nothing is known yet. */
export const FIRST_WRITE_ROWS = 32;

async function writeRows(
  context: BatchContext,
  leaseId: string,
  rows: readonly EmbeddedRow[],
): Promise<Written> {
  const written = new Set<string>();
  const refused: Refused[] = [];
  for (let start = 0; start < rows.length;) {
    const { writeRows: size } = context.memory;
    const part = rows.slice(start, start + size);
    const started = performance.now();
    const outcome = await writeOrHalve(context, leaseId, part);
    const ms = performance.now() - started;
    if (part.length === size || ms > WRITE_MS) {
      const limits = { targetMs: WRITE_MS, maxRows: MAX_WRITE_ROWS };
      context.memory.writeRows = nextBatchRows(size, { rows: part.length, ms }, limits);
    }
    for (const key of outcome.written) written.add(key);
    refused.push(...outcome.refused);
    start += part.length;
  }
  return { written, refused };
}

interface Written {
  /** Key texts. */
  written: Set<string>;
  refused: Refused[];
}

/**
 * Writes what can be written. A row that the table itself refuses (a user's trigger, a constraint) is
 * found by halving, so that it alone is charged. PostgreSQL reports an error before it lets go of the failed
 * statement's locks, so the next one, on another connection, may find its rows locked; they come back later.
 */
async function writeOrHalve(
  context: BatchContext,
  leaseId: string,
  rows: readonly EmbeddedRow[],
): Promise<Written> {
  const [first] = rows;
  if (first === undefined) return { written: new Set(), refused: [] };
  try {
    const { pool, pipeline, kind, provider } = context;
    const written = await complete(pool, pipeline, { kind, leaseId, model: provider.model, rows });
    return { written, refused: [] };
  } catch (error) {
    const code = rowRefusal(error);
    if (code === null) throw error;
    // The server's message may quote the row.
    if (rows.length === 1)
      return { written: new Set(), refused: [{ row: first, code, message: "the table refused the UPDATE" }] };
    const half = Math.ceil(rows.length / 2);
    const a = await writeOrHalve(context, leaseId, rows.slice(0, half));
    const b = await writeOrHalve(context, leaseId, rows.slice(half));
    return { written: new Set([...a.written, ...b.written]), refused: [...a.refused, ...b.refused] };
  }
}

/** SQLSTATE classes that speak of a row: data exception, integrity, triggered action, raised by a trigger, check option. */
const ROW_CLASSES = new Set(["22", "23", "09", "P0", "44"]);

function rowRefusal(error: unknown): string | null {
  const code = error instanceof pg.DatabaseError ? error.code : undefined;
  return code !== undefined && ROW_CLASSES.has(code.slice(0, 2)) ? code : null;
}

async function embedRows(
  { template, pipeline, provider, signal, meter, reuse }: BatchContext,
  rows: readonly ClaimedRow[],
  maxComputed: number,
): Promise<{ embedded: EmbeddedRow[]; failed: Refused[]; computed: number; keep: () => Promise<void> }> {
  const texts = rows.map((row) => renderTemplate(template, row.content));
  const usable = rows.flatMap((row, i) => (isBlank(texts[i]) ? [] : [{ row, text: texts[i] ?? "" }]));
  const options = { signal, dimensions: pipeline.dimensions, meter };
  const { results, computed, keep } = await reuse.embed(
    pipeline,
    provider.model,
    usable.map(({ text }) => text),
    {
      maxComputed,
      compute: (missing) => {
        signal.throwIfAborted();
        return embedBatch(provider, missing, options);
      },
    },
  );
  const embedded: EmbeddedRow[] = [];
  const failed: Refused[] = rows
    .filter((_, i) => isBlank(texts[i]))
    .map((row) => ({ row, code: "blank", message: "the part of the text that is read is blank" }));
  usable.forEach(({ row }, i) => {
    const result = results[i];
    if (result === undefined) return;
    if ("error" in result) failed.push({ row, code: result.error.code, message: result.error.message });
    else {
      // The text is not carried on: a locked row may wait for long.
      const { keyText, key, hash } = row;
      embedded.push({ keyText, key, hash, embedding: result.embedding });
    }
  });
  return { embedded, failed, computed, keep };
}

/** Leaves only the locked rows in the lease; changed and deleted ones are free for a new claim. */
async function keepLocked(
  { pool, pipeline, kind, provider }: BatchContext,
  leaseId: string,
  left: readonly EmbeddedRow[],
  leaseHasMore: boolean,
): Promise<EmbeddedRow[]> {
  if (left.length === 0) {
    if (leaseHasMore) await releaseLease(pool, leaseId);
    return [];
  }
  const waiting = await stillWaiting(pool, pipeline, { kind, model: provider.model, rows: left });
  const locked = left.filter((row) => waiting.has(row.keyText));
  if (locked.length === 0) await releaseLease(pool, leaseId);
  else {
    await trimLease(
      pool,
      leaseId,
      locked.map((row) => row.keyText),
    );
  }
  return locked;
}
