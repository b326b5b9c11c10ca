import { EmbeddError, messageOf } from "../errors.js";
import type { Logger } from "../logger.js";
import { clearWait, markCaughtUp, setWait } from "./pipeline-state.sql.js";
import { backoffMs } from "../backoff.js";
import type { BatchContext } from "./batch.js";
import type { Presence } from "./wake/presence.js";
import { createReembedding } from "./reembed.js";
import { createRefresh } from "./refresh.js";
import { isShapeError } from "./write/shape-error.js";
import { sleep } from "../sleep.js";
import { newSweepMemory, sweep } from "./sweep.js";
import type { SweepOptions } from "./sweep.js";
import { STANDBY_MS, nextWakeStep, startWakeLoop } from "./wake/wake-loop.js";
import type { WakeEvent, WakeStep } from "./wake/wake-loop.js";

export interface RunnerOptions extends Omit<SweepOptions, "stopping"> {
  presence: Presence;
  log: Logger;
  /** The table no longer matches the statement. */
  onShapeError: (error: unknown) => void;
  onState: (state: RunnerState) => void;
}

/** `waiting`: its provider or a daily limit makes it wait for `LONG_WAIT_MS` or longer. */
export type RunnerState = "busy" | "asleep" | "waiting";

/** `idle()` does not wait for delays this long. */
const LONG_WAIT_MS = 30_000;
/** The longest timer that Node.js has, about 25 days. */
const LONGEST_SLEEP_MS = 2 ** 31 - 1;

export interface PipelineRunner {
  wake(): void;
  /**
   * Stops claiming. After `graceMs`, rows that are still being computed are given back.
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
  let fruitless = 0;
  /** Whether embedd.status may show a wait reason; at the start, one from an earlier worker. */
  let waitShown = true;

  function wake(): void {
    woken = true;
    interrupt.abort();
  }

  /** Waits for `ms`, or until woken or stopped. */
  async function pause(ms: number): Promise<WakeEvent> {
    if (!woken) await sleep(ms, AbortSignal.any([stopping.signal, interrupt.signal]));
    if (!woken) return { type: "timeout" };
    return { type: "wake" };
  }

  async function perform(step: WakeStep): Promise<WakeEvent> {
    if (step.release) await presence.releaseGate(pipeline.id);
    switch (step.action.type) {
      case "sweep": {
        // The sweep sees everything that caused an earlier wake-up.
        clearWake();
        const { claimed, settled } = await sweep(context, sweepOptions, memory);
        if (waitShown) {
          await clearWait(context.pool, pipeline.id);
          waitShown = false;
        }
        // Every claimed row was changed or deleted meanwhile. Twice in a row is rare; without a pause, a repeated
        // case would be a busy loop.
        fruitless = claimed > 0 && settled === 0 ? fruitless + 1 : 0;
        if (fruitless > 1) await sleep(Math.min(2 ** fruitless, 30_000), stopping.signal);
        return { type: "swept", found: claimed > 0 };
      }
      case "ask":
        return {
          type: "gate",
          answer: await presence.tryGate(pipeline.id, step.action.lookForSleeper),
        };
      case "wait":
        return pause(step.action.ms);
      case "reembed": {
        await markCaughtUp(context.pool, pipeline.id);
        const idle = AbortSignal.any([stopping.signal, interrupt.signal]);
        return { type: "reembedded", more: await reembedding.step(idle) };
      }
      case "sleep": {
        options.onState("asleep");
        const holds = step.state.phase === "asleep" && step.state.holds;
        const event = await pause(holds ? LONGEST_SLEEP_MS : STANDBY_MS);
        options.onState("busy");
        return event;
      }
      case "none":
        throw new Error("the wake loop waits for an outcome, but nothing is running");
    }
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
          if (event.type !== "wake") step = nextWakeStep(step.state, { type: "wake" });
        }
        step = nextWakeStep(step.state, event);
      } catch (error) {
        await recover(error);
        // Release the gate, whatever the fault was: while a worker holds it, every writer notifies.
        await presence.releaseGate(pipeline.id).catch(() => undefined);
        step = startWakeLoop();
      }
    }
    await reembedding.stop();
    await presence.releaseGate(pipeline.id).catch(() => undefined);
  }

  async function recover(error: unknown): Promise<void> {
    if (stopping.signal.aborted) return;
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
    if (known?.kind === "provider") {
      waitShown = true;
      await setWait(context.pool, pipeline.id, known.message, ms).catch(() => undefined);
    }
    if (isShapeError(error)) options.onShapeError(error);
    if (ms >= LONG_WAIT_MS) options.onState("waiting");
    await sleep(ms, stopping.signal);
    options.onState("busy");
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
