import type { Client, Pool } from "pg";
import { readBlockers } from "../database/blockers.sql.js";
import { backendPid } from "../database/inspect-connection.js";
import { stopSignal } from "./signals.js";
import { printError } from "./print.js";
import { visibleInLine } from "../visible.js";

const LOOK_MS = 2_000;

/**
 * Runs `work`, which builds an index CONCURRENTLY on `client`. PostgreSQL then waits for every transaction that is older,
 * without an end and without a word, so this says which they are. If a signal ends the build, says how to finish it.
 * @param work calls `begin` when it begins to build
 */
export async function reportingWaits<T>(
  { pool, client, finish }: { pool: Pool; client: Client; finish: string },
  work: (begin: () => void) => Promise<T>,
): Promise<T> {
  const pid = await backendPid(client);
  let reported: string | null = null;
  let timer: NodeJS.Timeout | undefined;
  const look = async (): Promise<void> => {
    const blockers = await readBlockers(pool, pid).catch(() => null);
    if (blockers !== null && blockers !== reported)
      printError(`waiting for ${visibleInLine(blockers)}; the index is built when that transaction ends\n`);
    reported = blockers;
  };
  const onStop = (): void => {
    printError(`the index of pending rows is unfinished\n  try: ${finish}\n`);
  };
  const begin = (): void => {
    printError("building the index of pending rows; writers are not blocked\n");
    timer = setInterval(() => void look(), LOOK_MS);
    stopSignal.addEventListener("abort", onStop, { once: true });
  };
  try {
    return await work(begin);
  } finally {
    clearInterval(timer);
    stopSignal.removeEventListener("abort", onStop);
  }
}
