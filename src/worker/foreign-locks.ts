import type { Pool } from "pg";
import { foreignLocks } from "../database/turns.sql.js";
import type { Logger } from "../logger.js";

/**
 * Logs each lock of embedd's classes that a stranger holds, once. Such a lock costs latency only, so a failure to look
 * is not worth a line.
 * @returns the check, to be called now and then
 */
export function foreignLockReporter(pool: Pool, log: Logger): () => Promise<void> {
  let known = new Set<string>();
  return async () => {
    const found = await foreignLocks(pool).catch(() => []);
    const current = new Set<string>();
    for (const { class: name, id, mode, pid, role } of found) {
      const key = `${name} ${id} ${mode} ${pid ?? "prepared"}`;
      current.add(key);
      if (known.has(key)) continue;
      log.warn(
        { lock: name, id, mode, pid, role, cause: key },
        "a role that has nothing to do with embedd holds one of its locks, which costs latency",
      );
    }
    known = current;
  };
}
