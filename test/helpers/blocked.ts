import type { TestDatabase } from "./database.js";
import { waitFor } from "./wait.js";

/** Waits until `work` has ended, or waits for a lock that the session `pid` holds. */
export async function endedOrBlocked(
  db: Pick<TestDatabase, "query">,
  work: Promise<unknown>,
  pid: number,
): Promise<void> {
  let ended = false;
  const end = (): void => {
    ended = true;
  };
  work.then(end, end);
  const blocked = () =>
    db.query("select from pg_stat_activity where $1 = any (pg_blocking_pids(pid))", [pid]);
  await waitFor(async () => ended || ((await blocked()).rowCount ?? 0) > 0, { what: "the lock" });
}
