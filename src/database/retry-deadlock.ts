import pg from "pg";
import { sleep } from "../sleep.js";

const DEADLOCK = "40P01";
const ATTEMPTS = 20;
const PAUSE_MS = 500;

/**
 * Repeats work that PostgreSQL ended to resolve a deadlock. CREATE INDEX CONCURRENTLY waits for the snapshots of
 * statements that wait for its own lock, so two commands on one table can meet like this; the pause is random, so
 * that they do not meet each time.
 * @param work leaves nothing behind that keeps it from being repeated
 */
export async function retryDeadlock<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const deadlock = error instanceof pg.DatabaseError && error.code === DEADLOCK;
      if (!deadlock || attempt === ATTEMPTS) throw error;
    }
    await sleep(PAUSE_MS * (0.5 + Math.random()));
  }
}
