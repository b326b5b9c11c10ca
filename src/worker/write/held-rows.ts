import type { EmbeddedRow } from "./complete.sql.js";
import { releaseLease } from "../claim/leases.sql.js";
import type { Pipeline } from "../../database/pipeline.js";
import { finishRows } from "../batch.js";
import type { BatchContext, FinishOutcome } from "../batch.js";
import { backoffMs } from "../../backoff.js";
import { isShapeError } from "./shape-error.js";
import { sleep } from "../../sleep.js";

/** No more than this many computed vectors wait for applications to let go of their rows. */
const MAX_WAITING_ROWS = 2_000;
/** Longer than this and the row is given back, to be embedded again. */
const MAX_WAIT_MS = 600_000;

/**
 * Rows whose vectors are ready but which an application holds locked. They stay leased, so that nobody
 * computes them again, and are written as soon as they are free; the wake loop does not wait for them.
 */
export interface LockedRows {
  add(context: BatchContext, leaseId: string, rows: EmbeddedRow[]): void;
  /** Resolves when there is room for more. */
  room(): Promise<void>;
  /** Tries once more, and gives back what is still locked. */
  stop(): Promise<void>;
}

export function createLockedRows(
  leases: Set<string>,
  onSettled: (pipeline: Pipeline, outcome: FinishOutcome) => void,
  /** Rows were given back, for a new claim to find. */
  onGivenBack: (pipeline: Pipeline) => void,
): LockedRows {
  const stopping = new AbortController();
  const waiting = new Set<Promise<void>>();
  let count = 0;

  async function giveBack({ pool, pipeline }: BatchContext, leaseId: string): Promise<void> {
    await releaseLease(pool, leaseId).catch(() => undefined);
    onGivenBack(pipeline);
  }

  async function settle(context: BatchContext, leaseId: string, rows: EmbeddedRow[]): Promise<void> {
    const giveUpAt = performance.now() + MAX_WAIT_MS;
    let left = rows;
    for (let attempt = 0; left.length > 0; attempt++) {
      await sleep(20 + backoffMs(attempt, 50, 1_000), stopping.signal);
      // The last attempt comes after the decision to give up, so that nothing is thrown away that is free now.
      const last = stopping.signal.aborted || performance.now() > giveUpAt;
      try {
        const outcome = await finishRows(context, leaseId, left);
        left = outcome.locked;
        onSettled(context.pipeline, outcome);
      } catch (error) {
        // The columns have other names now, and these vectors are of no use.
        if (isShapeError(error)) {
          await giveBack(context, leaseId);
          return;
        }
        // The database is away; the wake loop says so. The next attempt finds it back.
      }
      if (last) {
        if (left.length > 0) await giveBack(context, leaseId);
        return;
      }
    }
  }

  return {
    add(context, leaseId, rows) {
      count += rows.length;
      leases.add(leaseId);
      const settled = settle(context, leaseId, rows).finally(() => {
        count -= rows.length;
        leases.delete(leaseId);
        waiting.delete(settled);
      });
      waiting.add(settled);
    },
    async room() {
      while (count > MAX_WAITING_ROWS && !stopping.signal.aborted) await Promise.race(waiting);
    },
    async stop() {
      stopping.abort();
      await Promise.all(waiting);
    },
  };
}
