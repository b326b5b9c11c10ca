import { DEFAULTS } from "../defaults.js";
import { renewLeases } from "./claim/leases.sql.js";
import { foreignLockReporter } from "./foreign-locks.js";
import type { PipelineSet } from "./pipeline-set.js";
import type { SchemaWatch } from "./schema-watch.js";
import type { Base } from "./shut-down.js";
import type { Listener } from "./wake/listener.js";
import type { Presence } from "./wake/presence.js";
import type { WorkerOptions } from "./worker-options.js";

/** How often to check what has fallen due: void leases, retries, pipelines that no worker serves. */
const DUE_MS = 1_000;
/** How often the worker says that it is alive. After 15 s of silence it counts as frozen. */
const BEAT_MS = 3_000;
/** How often to look for locks in the hands of strangers. */
const FOREIGN_LOCKS_MS = 10_000;

/** What the timers keep going. */
export interface Timed {
  presence: Presence;
  listener: Listener;
  pipelines: PipelineSet;
  schema: SchemaWatch;
  leases: ReadonlySet<string>;
  sweepAll: () => void;
}

/** Starts what a worker does at intervals. The timers end with the stack. */
export function startTimers(options: WorkerOptions, { log, pool, stack }: Base, timed: Timed): void {
  const { presence, listener, pipelines, schema, leases, sweepAll } = timed;
  const { leaseMs = DEFAULTS.leaseMs } = options;
  const every = (ms: number, work: () => void) => {
    const timer = setInterval(work, ms);
    stack.push(() => clearInterval(timer));
  };
  every(leaseMs / 3, () => {
    if (leases.size > 0) renewLeases(pool, [...leases], leaseMs).catch(() => undefined);
  });
  every(DUE_MS, () => {
    if (pipelines.waits()) pipelines.refreshSoon();
    presence
      .due(pipelines.ids())
      .then((due) => {
        schema.found();
        for (const id of due) pipelines.wake(id);
      })
      .catch(schema.failed);
  });
  every(BEAT_MS, () => {
    presence.beat(listener.heardMsAgo()).catch(() => undefined);
  });
  const reportForeignLocks = foreignLockReporter(pool, log);
  void reportForeignLocks();
  every(FOREIGN_LOCKS_MS, () => void reportForeignLocks());
  every(options.pollIntervalMs ?? DEFAULTS.pollIntervalMs, sweepAll);
}
