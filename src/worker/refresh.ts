import { sleep, untilDone } from "../sleep.js";
import { runBatch } from "./batch.js";
import type { BatchContext } from "./batch.js";
import { claimStale } from "./claim/claim.sql.js";
import { findDueFailures, findInWindow, forgetFailures, leasedOf } from "./claim/find-refresh.sql.js";
import type { RefreshRow } from "./claim/find-refresh.sql.js";
import { endRefresh, finishWindow, renewWindow, takeWindow } from "./claim/refresh-windows.sql.js";
import { newBatchSize } from "./pace.js";
import { REEMBED_BATCH_SHARE, reembeddingDepth, throwFirst } from "./reembed.js";
import type { Reembedding } from "./reembed.js";
import type { SweepOptions } from "./sweep.js";
import type { HeldBatch } from "./write/held-rows.js";

/** A window may go this many leases without a renewal. Every batch renews it, and a batch may wait for its provider. */
const WINDOW_LEASES = 20;
/** Before rows are looked at again that another batch or an application holds, or a pipeline that a transaction holds. */
const HELD_MS = 200;
/** Before the worker looks again whether other workers have finished. */
const REST_MS = 1_000;

/** What the worker has taken: a window, or rows that failed and are due again (`id` is null). */
interface Work {
  id: string | null;
  todo: RefreshRow[];
  /** How many rows it had. */
  rows: number;
  /** Batches with rows that an application holds locked. */
  held: number;
}

/**
 * Re-embeds every row that has a vector, newest key first, after all pending rows. Workers share the table in windows.
 * Within a window every row is claimed, embedded, and written unless its vector stays the same. A row that was edited
 * meanwhile has no vector any more and is pending. A row that fails is charged; the refresh ends when it has reached
 * every row and each failed row is embedded or dead.
 */
export function createRefresh(batchContext: BatchContext, sweepOptions: SweepOptions): Reembedding {
  const context: BatchContext = { ...batchContext, kind: "refresh" };
  const { pool, pipeline, provider } = context;
  const { model } = provider;
  const depth = reembeddingDepth(provider);
  const windowMs = WINDOW_LEASES * sweepOptions.leaseMs;
  const size = newBatchSize();
  const open = new Set<Work>();
  const inFlight = new Set<Promise<void>>();
  const failures: unknown[] = [];
  /** By lease: the held rows of one batch. */
  const held = new Map<string, { work: Work; rows: RefreshRow[] }>();
  let current: Work | null = null;
  let restUntil = 0;
  let done = false;

  function optionsFor(work: Work): SweepOptions {
    function add(batch: HeldBatch): void {
      const entry = { work, rows: keysOf(batch.rows) };
      held.set(batch.leaseId, entry);
      work.held++;
      sweepOptions.held.add({
        ...batch,
        async write(rows) {
          const outcome = await batch.write(rows);
          entry.rows = keysOf(outcome.held);
          return outcome;
        },
      });
    }
    return {
      ...sweepOptions,
      batchMs: sweepOptions.batchMs * REEMBED_BATCH_SHARE,
      held: { ...sweepOptions.held, add },
    };
  }

  /** Takes back rows that were released while an application still held them. */
  function settleHeld(): void {
    for (const [leaseId, { work, rows }] of held) {
      if (sweepOptions.leases.has(leaseId)) continue;
      work.todo.push(...rows);
      work.held--;
      held.delete(leaseId);
    }
  }

  async function finishWindows(): Promise<void> {
    for (const work of open) {
      if (work.todo.length > 0 || work.held > 0) continue;
      const { id, rows } = work;
      const ended = id === null || (await finishWindow(pool, pipeline, { windowId: id, model, rows }));
      if (!ended) restUntil = performance.now() + REST_MS;
      open.delete(work);
    }
  }

  async function takeWork(): Promise<Work | "busy" | null> {
    for (const work of open) if (work.todo.length > 0) return work;
    const mine = [...open].flatMap(({ id }) => id ?? []);
    const window = await takeWindow(pool, pipeline, {
      worker: sweepOptions.workerId(),
      mine,
      model,
      windowMs,
    });
    if (window === "busy") return window;
    const todo =
      window === null ? await findDueFailures(pool, pipeline) : await findInWindow(pool, pipeline, window);
    if (window === null && todo.length === 0) return null;
    const work = { id: window?.id ?? null, todo, rows: todo.length, held: 0 };
    open.add(work);
    return work;
  }

  async function advance(work: Work, signal: AbortSignal): Promise<void> {
    const options = optionsFor(work);
    await options.held.room();
    const limit = Math.min(size.rows, options.maxBatchRows, provider.maxBatchRows);
    const rows = work.todo.splice(0, limit);
    let claim;
    try {
      if (work.id !== null) await renewWindow(pool, work.id, windowMs);
      claim = await claimStale(pool, pipeline, {
        worker: options.workerId(),
        leaseMs: options.leaseMs,
        maxChars: options.maxChars,
        maxClaimChars: options.maxClaimChars,
        kind: "refresh",
        model,
        keys: rows.map(({ key }) => key),
      });
      if (claim === null) {
        await setAside(work, rows, signal);
        return;
      }
    } catch (error) {
      work.todo.unshift(...rows);
      throw error;
    }
    const claimed = new Set(claim.keys.map(({ keyText }) => keyText));
    // Long texts made the claim smaller, or a row is gone: a claim of nothing else will show that.
    work.todo.unshift(...rows.filter(({ keyText }) => !claimed.has(keyText)));
    const batch = runBatch(context, options, { claim, limit, size })
      .then(
        () => undefined,
        (error: unknown) => {
          failures.push(error);
          work.todo.unshift(...rows.filter(({ keyText }) => claimed.has(keyText)));
        },
      )
      .then(() => {
        inFlight.delete(batch);
      });
    inFlight.add(batch);
  }

  /** None of these rows can be claimed: those in another batch are tried again, and the others need nothing. */
  async function setAside(work: Work, rows: readonly RefreshRow[], signal: AbortSignal): Promise<void> {
    const leased = await leasedOf(pool, pipeline, rows);
    const gone = rows.filter(({ keyText }) => !leased.has(keyText));
    if (work.id === null && gone.length > 0) await forgetFailures(pool, pipeline, gone);
    if (leased.size === 0) return;
    work.todo.push(...rows.filter(({ keyText }) => leased.has(keyText)));
    await sleep(HELD_MS, signal);
  }

  return {
    async step(signal) {
      throwFirst(failures);
      if (done || performance.now() < restUntil) return false;
      settleHeld();
      await finishWindows();
      const taken = current ?? (await takeWork());
      if (taken === "busy") {
        await sleep(HELD_MS, signal);
        return true;
      }
      current = taken;
      if (current === null) {
        if (open.size > 0) {
          await sleep(REST_MS, signal);
          return true;
        }
        done = await endRefresh(pool, pipeline, model);
        restUntil = performance.now() + REST_MS;
        return false;
      }
      const work = current;
      while (inFlight.size < depth && work.todo.length > 0 && !signal.aborted) await advance(work, signal);
      if (inFlight.size > 0) await untilDone(Promise.race(inFlight), signal);
      throwFirst(failures);
      if (inFlight.size === 0 && work.todo.length === 0) current = null;
      return true;
    },
    async stop() {
      await Promise.all(inFlight);
    },
  };
}

const keysOf = (rows: readonly RefreshRow[]): RefreshRow[] =>
  rows.map(({ key, keyText }) => ({ key, keyText }));
