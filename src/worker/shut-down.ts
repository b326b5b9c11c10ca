import type { Pool } from "pg";
import { EmbeddError } from "../errors.js";
import type { Logger } from "../logger.js";
import { atMost } from "../sleep.js";
import type { StopStack } from "./stop-stack.js";

/** What a worker has from before its first connection until after its last. */
export interface Base {
  log: Logger;
  pool: Pool;
  /** Each opened resource pushes its stop at once. */
  stack: StopStack;
  /** Ends computing at a stop's deadline. */
  abort: AbortController;
  /** Cuts the pool's connections, for a network that no longer answers. */
  dropConnections: () => void;
  /** Cuts every connection, and has the server cancel the statements that run on them. */
  interrupts: (() => void)[];
}

/** The share of the deadline for computing; the rest is for writing what is ready and releasing what is not. */
const COMPUTING_SHARE = 7 / 8;
/** Closing connections takes some time, however short the deadline. */
const MIN_CLOSE_MS = 1_000;

/** What ends computing. */
export const workerStops = (): EmbeddError =>
  new EmbeddError("the worker stops", { kind: "provider", code: "stopping" });

/** Stops everything on the stack before the deadline, even if the network is dead. */
export async function shutDown(base: Base, deadlineMs: number): Promise<void> {
  const { log, pool, stack, abort, interrupts } = base;
  const stopComputing = setTimeout(() => {
    abort.abort(workerStops());
  }, deadlineMs * COMPUTING_SHARE);
  let closed = false;
  const closing = stack.stopAll().finally(() => {
    closed = true;
    clearTimeout(stopComputing);
  });
  await atMost(Math.max(deadlineMs, MIN_CLOSE_MS), closing);
  if (closed) return closing;
  log.warn({}, "stopped without an answer from the database; its leases expire on their own");
  // Otherwise what fails now would open another connection, and leave a statement behind that waits on the server.
  pool.options.max = 0;
  for (const interrupt of interrupts) interrupt();
}
