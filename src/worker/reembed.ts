import type { Provider } from "../providers/provider.js";
import { untilDone } from "../sleep.js";
import { runBatch } from "./batch.js";
import type { BatchContext } from "./batch.js";
import { claimStale } from "./claim/claim.sql.js";
import { endReembedding } from "./claim/end-reembedding.sql.js";
import { findStale } from "./claim/find-stale.sql.js";
import { newBatchSize, nextClaimRows } from "./pace.js";
import type { SweepOptions } from "./sweep.js";
import { forgetSettledFailures } from "./write/failures.sql.js";

/**
 * Re-embeds stale rows while a worker would otherwise sleep. The worker holds the gate meanwhile, so a writer
 * wakes it, and a fresh row is claimed while a stale batch is in flight. The old vector stays in its row until
 * the new one replaces it.
 *
 * A pass walks the table from the newest key to the oldest. A pass that finds nothing to do ends the
 * re-embedding and clears the pipeline's flag, unless rows are still leased or backing off.
 */
export interface Reembedding {
  /** Keeps batches in flight until one has ended or the signal is aborted; false: there is nothing to do now. */
  step(signal: AbortSignal): Promise<boolean>;
  /** Resolves when nothing is in flight. */
  stop(): Promise<void>;
}

/** Half as long as an ordinary batch, because a fresh row may have to wait for it. */
export const REEMBED_BATCH_SHARE = 0.5;
/** After a pass that settled nothing, the next one starts after this many times its duration. */
const REST = 20;
const MIN_REST_MS = 1_000;

/** Batches in flight at once. If the provider takes several calls at once, one is left for fresh rows. */
export const reembeddingDepth = ({ concurrency }: Pick<Provider, "concurrency">): number =>
  Math.max(concurrency - 1, 1);

export function createReembedding(batchContext: BatchContext, sweepOptions: SweepOptions): Reembedding {
  const context: BatchContext = { ...batchContext, kind: "stale" };
  const options = { ...sweepOptions, batchMs: sweepOptions.batchMs * REEMBED_BATCH_SHARE };
  const { pool, pipeline, provider } = context;
  const { model } = provider;
  const depth = reembeddingDepth(provider);
  const size = newBatchSize();
  const inFlight = new Set<Promise<void>>();
  const failures: unknown[] = [];
  let pass = newPass();
  let restUntil = 0;
  let done = !pipeline.reembed;

  async function advance(): Promise<void> {
    await options.held.room();
    const limit = nextClaimRows(size, Math.min(options.maxBatchRows, provider.maxBatchRows));
    const { keys, cursor, over } = await findStale(pool, pipeline, { model, limit, cursor: pass.cursor });
    pass.cursor = cursor;
    pass.over = over;
    if (keys.length === 0) return;
    const claim = await claimStale(pool, pipeline, {
      worker: options.workerId(),
      leaseMs: options.leaseMs,
      maxChars: options.maxChars,
      maxClaimChars: options.maxClaimChars,
      kind: "stale",
      model,
      keys,
    });
    if (claim === null) {
      pass.over ||= cursor === null;
      return;
    }
    if (claim.keys.length < keys.length && cursor !== null) {
      // Long texts made the claim smaller than the search.
      pass.cursor = claim.last;
      pass.over = false;
    }
    const current = pass;
    const work = runBatch(context, options, { claim, limit, size })
      .then((settled) => {
        current.settled += settled;
      })
      .catch((error: unknown) => failures.push(error))
      .then(() => {
        inFlight.delete(work);
      });
    inFlight.add(work);
  }

  /** Whether the next pass may start at once. */
  async function endPass(): Promise<boolean> {
    const tookMs = performance.now() - pass.startedAt;
    const fruitful = pass.settled > 0;
    if (!fruitful) {
      await forgetSettledFailures(pool, pipeline, { kind: "stale", model, sweepMs: tookMs });
      done = await endReembedding(pool, pipeline.id, model);
      restUntil = performance.now() + Math.max(REST * tookMs, MIN_REST_MS);
    }
    pass = newPass();
    return fruitful;
  }

  return {
    async step(signal) {
      throwFirst(failures);
      if (done || performance.now() < restUntil) return false;
      while (inFlight.size < depth && !pass.over && !signal.aborted) await advance();
      if (inFlight.size > 0) await untilDone(Promise.race(inFlight), signal);
      throwFirst(failures);
      if (signal.aborted || inFlight.size > 0 || !pass.over) return true;
      return endPass();
    },
    async stop() {
      await Promise.all(inFlight);
    },
  };
}

/** Throws the first of the failures, if there are any, and forgets all of them. */
export function throwFirst(failures: unknown[]): void {
  if (failures.length === 0) return;
  const [first] = failures.splice(0);
  throw first;
}

interface Pass {
  cursor: string[] | null;
  over: boolean;
  settled: number;
  startedAt: number;
}

const newPass = (): Pass => ({ cursor: null, over: false, settled: 0, startedAt: performance.now() });
