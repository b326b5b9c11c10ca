import { EmbeddError, messageOf } from "../errors.js";
import type { Logger } from "../logger.js";
import { clearWait, markCaughtUp, setWait } from "./pipeline-state.sql.js";
import { releaseUnknown } from "./claim/leases.sql.js";
import { backoffMs } from "../backoff.js";
import type { BatchContext } from "./batch.js";
import type { Presence } from "./wake/presence.js";
import { createReembedding } from "./reembed.js";
import { createRefresh } from "./refresh.js";
import { isShapeError } from "./write/shape-error.js";
import { sleep, withAnyOf } from "../sleep.js";
import { newSweepMemory, sweep } from "./sweep.js";
import type { SweepOptions } from "./sweep.js";
import { LONG_REFUSALS, nextWakeStep, sleepMs, startWakeLoop } from "./wake/wake-loop.js";
import type { WakeEvent, WakeStep } from "./wake/wake-loop.js";

export interface RunnerOptions extends Omit<SweepOptions, "stopping"> {
  presence: Presence;
  log: Logger;
  /** The table no longer matches the statement. */
  onShapeError: (error: unknown) => void;
  onState: OnState;
}

/**
 * `asleep`: also while it sweeps ten times a second because a session keeps the gate. `waiting`: its provider or a daily
 * limit makes it wait for `LONG_WAIT_MS` or longer. `failing`: `FAILING_AFTER` attempts in a row have failed.
 */
export type RunnerState = "busy" | "asleep" | "waiting" | "failing";

/** @param error why it is failing, or waits for its provider */
export type OnState = (state: RunnerState, error?: unknown) => void;

/** `idle()` does not wait for delays this long. */
const LONG_WAIT_MS = 30_000;
/**
 * After this many wake-ups in quick succession that found nothing, the next ones wait: anyone can notify, and as often as
 * they like. A sweep still follows every wake-up, at most MAX_IDLE_WAKE_MS later.
 */
const IDLE_WAKES = 8;
const MAX_IDLE_WAKE_MS = 200;
/** A wake-up that comes this long after the last one waits for nothing. */
const CALM_MS = 1_000;
/** Short faults, such as a restart of the server, are over by then. */
const FAILING_AFTER = 6;

export interface PipelineRunner {
  wake(): void;
  /**
   * Stops claiming. After `graceMs`, rows that are still being computed are released.
   * Resolves when nothing is running.
   */
  stop(graceMs?: number): Promise<void>;
}

/** Drives one pipeline's wake loop: performs its actions and reports their outcomes to it. */
export function runPipeline(batchContext: BatchContext, options: RunnerOptions): PipelineRunner {
  const { presence, log } = options;
  const { pipeline } = batchContext;
  const abort = new AbortController();
  const context = { ...batchContext, signal: AbortSignal.any([batchContext.signal, abort.signal]) };
  const memory = newSweepMemory(batchContext.provider.minBatchRows);
  const stopping = new AbortController();
  const sweepOptions = { ...options, stopping: () => stopping.signal.aborted };
  const createPass = pipeline.refreshStartedAt === null ? createReembedding : createRefresh;
  const reembedding = createPass(context, sweepOptions);
  let interrupt = new AbortController();
  let woken = false;
  let faults = 0;
  /** Attempts that have failed since the last progress. */
  let failed = 0;
  let fruitless = 0;
  /** Whether a wake-up caused the next sweep, and how many such sweeps in a row found nothing. */
  let byWake = false;
  let idleWakes = 0;
  let sweptAt = -Infinity;
  /** Whether embedd.status may show a wait reason; at the start, one from an earlier worker. */
  let waitShown = true;

  function wake(): void {
    woken = true;
    interrupt.abort();
  }

  /** Waits for `ms`, or until woken or stopped. */
  async function pause(ms: number): Promise<WakeEvent> {
    if (!woken) await withAnyOf([stopping.signal, interrupt.signal], (signal) => sleep(ms, signal));
    if (!woken) return { type: "timeout" };
    return { type: "wake" };
  }

  async function perform(step: WakeStep): Promise<WakeEvent> {
    if (step.release) await presence.releaseGate(pipeline.id);
    switch (step.action.type) {
      case "sweep": {
        if (performance.now() - sweptAt > CALM_MS) idleWakes = 0;
        if (byWake && idleWakes > IDLE_WAKES)
          await sleep(Math.min(2 ** (idleWakes - IDLE_WAKES), MAX_IDLE_WAKE_MS), stopping.signal);
        // The sweep sees everything that caused an earlier wake-up.
        clearWake();
        const { claimed, settled } = await sweep(context, sweepOptions, memory);
        if (claimed > 0) idleWakes = 0;
        else if (byWake) idleWakes++;
        sweptAt = performance.now();
        byWake = false;
        if (settled > 0) progressed();
        if (waitShown) {
          await clearWait(context.pool, pipeline.id);
          waitShown = false;
        }
        // Every claimed row was changed or deleted meanwhile. Twice in a row is rare; without a pause, a repeated
        // case would be a busy loop.
        fruitless = claimed > 0 && settled === 0 ? fruitless + 1 : 0;
        if (fruitless > FAILING_AFTER) fails(unwritten());
        if (fruitless > 1) await sleep(Math.min(2 ** fruitless, 30_000), stopping.signal);
        return { type: "swept", found: claimed > 0 };
      }
      case "ask": {
        const answer = await presence.tryGate(pipeline.id, step.action.lookForSleeper);
        if (answer === "refused" && step.state.phase === "asking" && step.state.refusals === LONG_REFUSALS)
          await reportGateHolders();
        return { type: "gate", answer };
      }
      case "wait":
        return pause(step.action.ms);
      case "reembed": {
        await markCaughtUp(context.pool, pipeline.id);
        const more = await withAnyOf([stopping.signal, interrupt.signal], (idle) => reembedding.step(idle));
        progressed();
        return { type: "reembedded", more };
      }
      case "sleep": {
        failed = 0;
        options.onState("asleep");
        const event = await pause(sleepMs(step.state));
        options.onState("busy");
        return event;
      }
      case "none":
        throw new Error("the wake loop waits for an outcome, but nothing is running");
    }
  }

  /** An application's transaction that stays open is one; a role that cannot even write to the table may be another. */
  async function reportGateHolders(): Promise<void> {
    for (const { pid, role } of await presence.gateHolders(pipeline.id)) {
      log.warn(
        { pipeline: pipeline.id, relation: pipeline.relation, pid, role, cause: `pid ${pid ?? "none"}` },
        "a session has held the gate for seconds; until it lets go, the worker sweeps ten times a second",
      );
    }
  }

  function progressed(): void {
    failed = 0;
    options.onState("busy");
  }

  function fails(error: unknown): void {
    options.onState("failing", error);
  }

  /** The table keeps discarding the vectors, for example in a trigger of its own. */
  function unwritten(): Error {
    return new Error(
      `rows of ${pipeline.relation} are changed each time before their vectors can be written`,
    );
  }

  function clearWake(): void {
    woken = false;
    interrupt = new AbortController();
  }

  async function run(): Promise<void> {
    let step = startWakeLoop();
    while (!stopping.signal.aborted) {
      try {
        const event = await perform(step);
        faults = 0;
        if (woken) {
          clearWake();
          byWake = true;
          if (event.type !== "wake") step = nextWakeStep(step.state, { type: "wake" });
        }
        step = nextWakeStep(step.state, event);
      } catch (error) {
        await recover(error);
        // They would otherwise wait until they expire, because this worker is alive.
        await releaseUnknown(context.pool, options.workerId(), pipeline.id, [...options.leases]).catch(
          () => undefined,
        );
        // Release the gate after any fault: while a worker holds it, every writer notifies.
        await presence.releaseGate(pipeline.id).catch(() => undefined);
        step = startWakeLoop();
      }
    }
    await reembedding.stop();
    await presence.releaseGate(pipeline.id).catch(() => undefined);
  }

  async function recover(error: unknown): Promise<void> {
    if (stopping.signal.aborted) return;
    // The worker's start was abandoned; its stop follows.
    if (batchContext.signal.aborted) return sleep(100, stopping.signal);
    const known = error instanceof EmbeddError ? error : undefined;
    const code = known?.code ?? (error as { code?: unknown }).code;
    const ms = known?.retryAfterMs ?? 100 + backoffMs(faults++, 200, known === undefined ? 2_000 : 60_000);
    log.warn(
      {
        pipeline: pipeline.id,
        relation: pipeline.relation,
        code,
        cause: messageOf(error),
        retryInMs: Math.round(ms),
      },
      known === undefined ? "the database failed, trying again" : "the provider failed, trying again",
    );
    if (known?.kind === "provider" || known?.kind === "configuration") {
      waitShown = true;
      await setWait(context.pool, pipeline.id, known.message, ms).catch(() => undefined);
    }
    if (isShapeError(error)) options.onShapeError(error);
    if (ms >= LONG_WAIT_MS) options.onState("waiting", error);
    else if (++failed >= FAILING_AFTER) fails(error);
    await sleep(ms, stopping.signal);
    if (ms >= LONG_WAIT_MS) options.onState("busy");
  }

  const ended = run();
  return {
    wake,
    async stop(graceMs) {
      stopping.abort();
      const grace =
        graceMs === undefined
          ? undefined
          : setTimeout(() => {
              abort.abort();
            }, graceMs);
      await ended;
      clearTimeout(grace);
    },
  };
}
