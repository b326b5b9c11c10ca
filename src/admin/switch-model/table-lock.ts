import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { ClientBase } from "pg";
import { retryDeadlock } from "../../database/retry-deadlock.js";
import { EmbeddError } from "../../errors.js";
import { inClientTransaction } from "../client-transaction.js";
import {
  limitLockWait,
  limitStatement,
  lockAgainstMaintenance,
  lockExclusively,
  readHolders,
  returnToSavepoint,
  setSavepoint,
} from "./table-lock.sql.js";

/** While this waits for the lock, every later query of the table waits behind it. */
const WAIT_MS = 200;
/** Average pause between two attempts, with jitter, so that it does not meet the same periodic job each time. */
const PAUSE_MS = 500;
const ATTEMPTS = 60;
/** The work under the lock is canceled after this. */
const WORK_MS = 5_000;
const MAINTENANCE_WAIT_MS = 10_000;

/** lock_not_available, query_canceled (all partitions' locks together took too long) */
const NOT_YET = new Set(["55P03", "57014"]);

/**
 * Runs `work` in one transaction under an ACCESS EXCLUSIVE lock of a table. It tries the lock for 200 ms at a time,
 * so that no application waits for longer than a moment.
 * @param relation quoted, with its schema
 * @param again the command to run again after an error
 * @returns what `work` returned, and for how many milliseconds the lock was held
 * @throws EmbeddError with code `locked`, naming the sessions that hold the table, after about half a minute
 */
export async function withTableLock<T>(
  client: ClientBase,
  relation: string,
  again: string,
  work: () => Promise<T>,
): Promise<{ result: T; lockedMs: number }> {
  let lockedAt = 0;
  const transaction = async (): Promise<T> => {
    await keepMaintenanceAway(client, relation, again);
    await takeExclusiveLock(client, relation, again);
    lockedAt = performance.now();
    await limitStatement(client, WORK_MS);
    return work();
  };
  const result = await retryDeadlock(() => inClientTransaction(client, transaction));
  return { result, lockedMs: performance.now() - lockedAt };
}

/**
 * Autovacuum only yields to a session that has waited for a second (deadlock_timeout). Readers and writers queue
 * behind an exclusive lock for that long, but not behind this weaker one.
 */
async function keepMaintenanceAway(client: ClientBase, relation: string, again: string): Promise<void> {
  await limitLockWait(client, MAINTENANCE_WAIT_MS);
  await setSavepoint(client);
  try {
    await lockAgainstMaintenance(client, relation);
  } catch (error) {
    if (!isNotYet(error)) throw error;
    await returnToSavepoint(client);
    throw await lockedError(client, relation, again, error);
  }
}

async function takeExclusiveLock(client: ClientBase, relation: string, again: string): Promise<void> {
  await limitLockWait(client, WAIT_MS);
  await limitStatement(client, 2 * WAIT_MS);
  for (let attempt = 1; ; attempt++) {
    try {
      await setSavepoint(client);
      await lockExclusively(client, relation);
      return;
    } catch (error) {
      if (!isNotYet(error)) throw error;
      await returnToSavepoint(client);
      if (attempt === ATTEMPTS) throw await lockedError(client, relation, again, error);
    }
    await sleep(PAUSE_MS * (0.5 + Math.random()));
  }
}

const isNotYet = (error: unknown): boolean =>
  error instanceof pg.DatabaseError && NOT_YET.has(error.code ?? "");

async function lockedError(
  client: ClientBase,
  relation: string,
  again: string,
  cause: unknown,
): Promise<EmbeddError> {
  const holders = (await readHolders(client, relation)) ?? "sessions that have just ended";
  return new EmbeddError(
    `${relation} could not be locked: it was held by ${holders}; try again when they are done`,
    { kind: "database", code: "locked", hint: again, cause },
  );
}
