import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { cpuQuota } from "./cpu-quota.js";

export interface DefaultThreads {
  threads: number;
  /** Why, for people. */
  reason: string;
}

/**
 * How many threads compute if the settings do not say: the processors that the process may run on (its affinity and
 * cpuset), but no more than its CPU quota. A quota of 1.5 processors is 1 thread: beyond the quota, Linux stops all
 * threads until the next period, and the threads of a matrix product wait for each other. With a quota of 1, 16 threads
 * took 14 times as long as 1.
 */
export function defaultThreads(): DefaultThreads {
  return chooseThreads(availableParallelism(), cpuQuota(readText));
}

export function chooseThreads(processors: number, quota: number | null): DefaultThreads {
  if (quota === null || quota >= processors) {
    return { threads: processors, reason: "the processors that this process may use" };
  }
  const threads = Math.max(1, Math.floor(quota));
  const rounded = Math.round(quota * 100) / 100;
  return { threads, reason: `a CPU quota of ${rounded}, with ${processors} processors` };
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}
