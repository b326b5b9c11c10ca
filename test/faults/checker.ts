import type pg from "pg";
import { waitFor } from "../helpers/wait.js";

/** Computes the vectors that the workers' provider returns for texts. */
export type Reference = (texts: readonly string[]) => Promise<ArrayLike<number>[]>;

export interface CheckOptions {
  reference: Reference;
  /** A vector with a lower cosine belongs to another text; hashed vectors differ only by decimal rounding. */
  minCosine: number;
}

export interface Checked {
  rows: number;
  /** Vectors written since the last check. */
  writes: number;
  /** From the call until every row has its vector and no lease or failure is left. */
  settledMs: number;
}

/**
 * Time limit after the last fault, for all rows to be embedded and for what is left of workers to go: several times what
 * a worker needs to detect dead connections on its own.
 */
const SETTLE_MS = 90_000;

/** A broken guarantee. */
export class Violation extends Error {}

export const blank = "(body is null or body !~ '\\S')";

/**
 * Call with writers paused and faults undone. Checks that every row with a text gets its vector and that no lease
 * or failure is left. Then checks all vectors written since the last check: each matches the text that its row
 * had then, none was written twice for one version, and each row has the vector that was written last.
 * @throws Violation
 */
export async function check(pool: pg.Pool, options: CheckOptions): Promise<Checked> {
  const started = performance.now();
  await settle(pool);
  const settledMs = performance.now() - started;
  const rows = await checkRows(pool);
  const writes = await checkWrites(pool, options);
  // Clears the audit except for current vectors, so that a second write of one of them is detected.
  await pool.query(
    "delete from audit a where not exists (select from notes n where n.id = a.note and n.version = a.version)",
  );
  return { rows, writes, settledMs };
}

/** Wakes no worker for pending rows, so a lost wake-up is detected. */
async function settle(pool: pg.Pool): Promise<void> {
  await waitForNone(
    pool,
    "rows or leases",
    `
    select format('row %s', id) as what from notes where embedding is null and not ${blank} and body not like 'poison%'
    union all select format('lease %s', id) from embedd.leases`,
  );
  // The next sweep removes the failures of rows that have recovered or were deleted.
  await pool.query("select pg_notify('embedd', id::text) from embedd.pipelines");
  await waitForNone(
    pool,
    "failures",
    `
    select format('row %s (%s)', f.key, f.code) as what from embedd.failures f
    where not exists (select from notes n where n.id::text = f.key and n.body like 'poison%')`,
  );
}

export async function waitForNone(pool: pg.Pool, what: string, statement: string): Promise<void> {
  let left: string[] = [];
  await waitFor(
    async () => {
      const { rows } = await pool.query<{ what: string }>(statement);
      left = rows.map((row) => row.what);
      return left.length === 0;
    },
    { timeoutMs: SETTLE_MS, what, intervalMs: 10 },
  ).catch(() => {
    throw new Violation(
      `${left.length} ${what} left ${SETTLE_MS} ms after the last fault: ${left.slice(0, 10).join(", ")}`,
    );
  });
}

/** A row with a text has a vector, written once for this version; a blank or refused row has none. */
async function checkRows(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ count: number; wrong: string[] | null }>(`
    select count(*)::int as count, (array_agg(format('%s (version %s, %s writes)', n.id, n.version, a.writes)) filter (where
      case when ${blank} or body like 'poison%' then n.embedding is not null or a.writes > 0
      else n.embedding is null or embedding_model is null or a.writes <> 1 or a.embedding is distinct from n.embedding::text end))[:10] as wrong
    from notes n
    cross join lateral (
      select count(*) as writes, min(a.embedding) as embedding from audit a where a.note = n.id and a.version = n.version) a`);
  const [found] = rows;
  if (found === undefined || found.wrong !== null)
    throw new Violation(`rows with a missing or an unexpected vector: ${found?.wrong?.join(", ") ?? ""}`);
  return found.count;
}

async function checkWrites(pool: pg.Pool, { reference, minCosine }: CheckOptions): Promise<number> {
  const twice = await pool.query<{ what: string }>(
    "select format('%s, version %s', note, version) as what from audit group by note, version having count(*) > 1 limit 10",
  );
  if (twice.rows.length > 0)
    throw new Violation(
      `vectors written twice for one version of the text: rows ${twice.rows.map(({ what }) => what).join("; ")}`,
    );
  const { rows } = await pool.query<{ body: string | null; vectors: string[]; writes: number }>(
    "select body, array_agg(distinct embedding) as vectors, count(*)::int as writes from audit group by body",
  );
  const expected = await reference(rows.map(({ body }) => body ?? ""));
  rows.forEach(({ body, vectors }, i) => {
    for (const vector of vectors) {
      const cosine = cosineOf(JSON.parse(vector) as number[], expected[i] ?? []);
      if (!(cosine >= minCosine))
        throw new Violation(
          `a row with the text ${String(body)} got the vector of another text (cosine ${cosine})`,
        );
    }
  });
  return rows.reduce((sum, { writes }) => sum + writes, 0);
}

export function cosineOf(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return NaN;
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] ?? 0, b[i] ?? 0];
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  return dot / Math.sqrt(aa * bb);
}

/** Waits until at most `most` of embedd's connections are left. @throws Violation that names them */
export async function checkConnections(pool: pg.Pool, most: number): Promise<void> {
  let names: string[] = [];
  await waitFor(
    async () => {
      const { rows } = await pool.query<{ application_name: string }>(
        "select application_name from pg_stat_activity where application_name like 'embedd%'",
      );
      names = rows.map((row) => row.application_name);
      return names.length <= most;
    },
    { timeoutMs: SETTLE_MS, what: "connections to close" },
  ).catch(() => {
    throw new Violation(`${names.length} connections instead of at most ${most}: ${names.join(", ")}`);
  });
}
