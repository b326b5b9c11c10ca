import type { Pool } from "pg";
import { messageOf } from "../errors.js";
import type { Logger } from "../logger.js";
import type { Provider } from "../providers/provider.js";
import { followNames, loadPipelines, recordGap } from "../database/load-pipelines.sql.js";
import type { Pipeline } from "../database/pipeline.js";
import { decide, decideOnAnswer, takeoverNotice } from "./decide.js";
import type { Decision, World, Yielded } from "./decide.js";
import { setPipelineError, withFormerModel } from "./pipeline-state.sql.js";
import { isBusy } from "./wake/serve.sql.js";
import type { ServeAnswer } from "./wake/serve.sql.js";
import type { OnState, PipelineRunner, RunnerState } from "./pipeline-runner.js";
import type { Presence } from "./wake/presence.js";
import { createRefreshQueue } from "./refresh-queue.js";
import { shapeOf } from "./runner-starter.js";

/** The pipelines that this worker serves. It follows embedd.pipelines and the shapes of the tables. */
export interface PipelineSet {
  /** Reads the pipelines, decides about each, and starts and stops runners accordingly. */
  refresh(): Promise<void>;
  /** Queues a refresh behind the running one; failures are only logged. */
  refreshSoon(): void;
  wake(pipelineId: number): void;
  wakeAll(): void;
  ids(): number[];
  /** The dimensions of the columns that are served, in ascending order. */
  dimensions(): number[];
  /** Why pipelines of this worker's model are not served. */
  problems(): string[];
  /** Whether a pipeline would be served if something else were not in the way, such as another model's workers. */
  waits(): boolean;
  /**
   * Resolves when every runner sleeps or waits for a long time, or the set was stopped.
   * @param giveUp runners that fail again and again count as idle
   */
  idle(giveUp: boolean): Promise<void>;
  /** The pipelines whose rows cannot be embedded now, each with its last error. */
  failing(): FailingPipeline[];
  /** Stops claiming, and resolves when no batch is in flight. Safe to call twice. */
  stop(): Promise<void>;
}

export interface FailingPipeline {
  relation: string;
  error: unknown;
}

export interface PipelineSetOptions {
  pool: Pool;
  provider: Provider;
  log: Logger;
  presence: Pick<Presence, "serve" | "unserve">;
  startRunner: (pipeline: Pipeline, onState: OnState) => PipelineRunner;
  /** How long no other model's worker may be connected before this worker takes over. */
  takeoverMs: number;
}

/** When a pipeline is paused, changed or removed, a batch in flight has this long to end. */
const PAUSE_GRACE_MS = 500;

interface Running {
  relation: string;
  dimensions: number;
  runner: PipelineRunner;
  /** Any difference restarts the runner. */
  shape: string;
  state: RunnerState;
  /** Why it is failing or waiting; null: it is not. */
  error: unknown;
}

interface IdleWaiter {
  giveUp: boolean;
  resolve: () => void;
}

/** A pipeline as far as reports need it; broken ones have no more. */
type Reported = Pick<Pipeline, "id" | "relation" | "error"> & { problem?: string | null };

export function createPipelineSet(options: PipelineSetOptions): PipelineSet {
  const { pool, provider, log, presence, startRunner, takeoverMs } = options;
  const running = new Map<number, Running>();
  /** The latest decision about each pipeline; a broken one counts as unfit. */
  const decisions = new Map<number, Decision>();
  const yielded = new Map<number, Yielded>();
  const idleWaiters = new Set<IdleWaiter>();
  let stopping = false;
  const queue = createRefreshQueue(refresh, log);

  async function refresh(): Promise<void> {
    for (const id of await followNames(pool))
      log.warn({ pipeline: id }, "its table or a column was renamed; embedd follows");
    const { pipelines, broken } = await loadPipelines(pool);
    for (const { id, gap, gapNow } of pipelines)
      if (gap === null && gapNow !== null) await recordGap(pool, id, gapNow);
    const served = new Map<number, Pipeline>();
    for (const pipeline of pipelines) {
      const decision = await settle(pipeline);
      note(pipeline, decision);
      if (decision.type === "serve") served.set(pipeline.id, pipeline);
    }
    for (const pipeline of broken) {
      yielded.delete(pipeline.id);
      note(pipeline, { type: "unfit", reason: pipeline.reason, yielded: null });
    }
    const all = [...pipelines, ...broken];
    forgetOthers(new Set(all.map(({ id }) => id)));
    await showErrors(all);
    await stopRunners(served);
    if (stopping) return;
    for (const [id, pipeline] of served) if (!running.has(id)) start(pipeline);
    checkIdle();
  }

  async function settle(pipeline: Pipeline): Promise<Decision> {
    const { id } = pipeline;
    const world = (): World => ({
      provider,
      serving: running.has(id),
      yielded: yielded.get(id) ?? null,
      nowMs: performance.now(),
      takeoverMs,
    });
    const decision = remember(id, decide(pipeline, world()));
    if (decision.type !== "ask") return decision;
    const answered = remember(id, decideOnAnswer(pipeline, world(), await ask(id)));
    if (answered.type !== "serve") return answered;
    const notice = takeoverNotice(await withFormerModel(pool, pipeline, provider.model), world());
    if (notice !== null) log.warn({ pipeline: id }, notice);
    return answered;
  }

  function ask(id: number): Promise<ServeAnswer | "busy"> {
    return presence.serve(id, provider.model).catch((error: unknown) => {
      if (isBusy(error)) return "busy";
      throw error;
    });
  }

  function remember(id: number, decision: Decision): Decision {
    if (decision.yielded === null) yielded.delete(id);
    else yielded.set(id, decision.yielded);
    return decision;
  }

  /** Logs a reason when it is new. */
  function note({ id, relation }: Reported, decision: Decision): void {
    const before = decisions.get(id);
    decisions.set(id, decision);
    const reason = reasonOf(decision);
    if (reason === null || (decision.type === before?.type && reason === reasonOf(before))) return;
    if (decision.type === "wait") log.warn({ pipeline: id }, reason);
    else log.error({ pipeline: id, relation }, reason);
  }

  function forgetOthers(ids: ReadonlySet<number>): void {
    for (const map of [decisions, yielded]) for (const id of map.keys()) if (!ids.has(id)) map.delete(id);
  }

  /** Shows in embedd.status what is wrong. While this worker waits, the workers that serve a pipeline do that. */
  async function showErrors(pipelines: readonly Reported[]): Promise<void> {
    for (const pipeline of pipelines) {
      const { id, error } = pipeline;
      const decision = decisions.get(id);
      if (decision?.type !== "serve" && decision?.type !== "unfit") continue;
      const reason = reasonOf(decision) ?? pipeline.problem ?? null;
      if (reason === error) continue;
      if (decision.type === "serve" && reason !== null)
        log.error({ pipeline: id, relation: pipeline.relation }, reason);
      await setPipelineError(pool, id, reason).catch((cause: unknown) => {
        log.debug({ cause: messageOf(cause) }, "could not write the pipeline's state");
      });
    }
  }

  /** Stops the runners of pipelines that are no longer served, or that have changed. */
  async function stopRunners(served: ReadonlyMap<number, Pipeline>): Promise<void> {
    const leaving = [...running].filter(([id, { shape }]) => {
      const next = served.get(id);
      return next === undefined || shapeOf(next) !== shape;
    });
    await Promise.all(
      leaving.map(async ([id, { runner }]) => {
        await runner.stop(PAUSE_GRACE_MS);
        running.delete(id);
        if (!served.has(id)) await presence.unserve(id);
      }),
    );
  }

  function start(pipeline: Pipeline): void {
    log.info({ pipeline: pipeline.id, relation: pipeline.relation }, "serving");
    const { relation, dimensions } = pipeline;
    const runner = startRunner(pipeline, (state, error = null) => {
      entry.state = state;
      entry.error = error;
      checkIdle();
    });
    const entry: Running = {
      relation,
      dimensions,
      runner,
      shape: shapeOf(pipeline),
      state: "busy",
      error: null,
    };
    running.set(pipeline.id, entry);
  }

  function checkIdle(): void {
    const states = new Set([...running.values()].map(({ state }) => state));
    for (const waiter of idleWaiters) {
      const busy = states.has("busy") || (states.has("failing") && !waiter.giveUp);
      if (busy && !stopping) continue;
      idleWaiters.delete(waiter);
      waiter.resolve();
    }
  }

  const reasonsOf = (type: "unfit" | "wait"): string[] =>
    [...decisions.values()].flatMap((decision) => (decision.type === type ? [decision.reason] : []));

  return {
    refresh,
    refreshSoon: queue.request,
    wake: (id) => running.get(id)?.runner.wake(),
    wakeAll() {
      for (const { runner } of running.values()) runner.wake();
    },
    ids: () => [...running.keys()],
    dimensions: () => [...new Set([...running.values()].map((r) => r.dimensions))].sort((a, b) => a - b),
    problems: () => [...reasonsOf("unfit"), ...reasonsOf("wait")],
    waits: () => reasonsOf("wait").length > 0,
    // Copies: a stop clears the errors before they are reported.
    failing: () => [...running.values()].filter(({ error }) => error !== null).map((one) => ({ ...one })),
    idle: (giveUp) =>
      new Promise((resolve) => {
        idleWaiters.add({ giveUp, resolve });
        checkIdle();
      }),
    async stop() {
      stopping = true;
      checkIdle();
      await queue.stop();
      await Promise.all([...running.values()].map(({ runner }) => runner.stop()));
    },
  };
}

const reasonOf = (decision: Decision): string | null => ("reason" in decision ? decision.reason : null);
