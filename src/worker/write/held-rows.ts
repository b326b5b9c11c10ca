import type { Pool } from "pg";
import { backoffMs } from "../../backoff.js";
import type { Pipeline } from "../../database/pipeline.js";
import { sleep } from "../../sleep.js";
import { releaseLease } from "../claim/leases.sql.js";
import type { EmbeddedRow, WriteOutcome } from "../rows.js";
import { isShapeError } from "./shape-error.js";

/** No new batch starts while more computed vectors than this wait for applications to unlock their rows. */
const MAX_HELD_ROWS = 2_000;
/** After this long a held row is released and will be embedded again. */
const MAX_WAIT_MS = 600_000;

/** The held rows of one batch. */
export interface HeldBatch {
  pool: Pool;
  pipeline: Pipeline;
  leaseId: string;
  rows: readonly EmbeddedRow[];
  /** Writes those that are free now; the outcome contains those still held. */
  write: (rows: readonly EmbeddedRow[]) => Promise<WriteOutcome>;
}

/**
 * Held rows: their vectors are ready, but an application holds them locked. They stay leased, so that no worker
 * computes them again, and are written as soon as they are free. The wake loop does not wait for them.
 */
export interface HeldRows {
  add(batch: HeldBatch): void;
  /** Resolves when there is room for more. */
  room(): Promise<void>;
  /** Tries once more, and releases what is still held. */
  stop(): Promise<void>;
  /** How many rows were still held when it was stopped. */
  left(): number;
}

export function createHeldRows(
  leases: Set<string>,
  onSettled: (pipeline: Pipeline, outcome: WriteOutcome) => void,
  /** Rows were released, for a new claim to find. */
  onReleased: (pipeline: Pipeline) => void,
): HeldRows {
  const stopping = new AbortController();
  const waiting = new Set<Promise<void>>();
  let count = 0;
  let left = 0;

  async function release({ pool, pipeline, leaseId }: HeldBatch): Promise<void> {
    await releaseLease(pool, leaseId).catch(() => undefined);
    onReleased(pipeline);
  }

  async function settle(batch: HeldBatch): Promise<void> {
    const giveUpAt = performance.now() + MAX_WAIT_MS;
    let held = batch.rows;
    for (let attempt = 0; held.length > 0; attempt++) {
      await sleep(20 + backoffMs(attempt, 50, 1_000), stopping.signal);
      // One attempt follows the decision to give up, so that a row that is free by now is still written.
      const last = stopping.signal.aborted || performance.now() > giveUpAt;
      try {
        const outcome = await batch.write(held);
        held = outcome.held;
        onSettled(batch.pipeline, outcome);
      } catch (error) {
        // The table's columns have changed, so these vectors are useless.
        if (isShapeError(error)) {
          await release(batch);
          return;
        }
        // The database is unreachable, which the wake loop reports. A later attempt will succeed.
      }
      if (last) {
        if (stopping.signal.aborted) left += held.length;
        if (held.length > 0) await release(batch);
        return;
      }
    }
  }

  return {
    left: () => left,
    add(batch) {
      count += batch.rows.length;
      leases.add(batch.leaseId);
      const settled = settle(batch).finally(() => {
        count -= batch.rows.length;
        leases.delete(batch.leaseId);
        waiting.delete(settled);
      });
      waiting.add(settled);
    },
    async room() {
      while (count > MAX_HELD_ROWS && !stopping.signal.aborted) await Promise.race(waiting);
    },
    async stop() {
      stopping.abort();
      await Promise.all(waiting);
    },
  };
}
