import type { Pool } from "pg";
import { DEFAULTS } from "../defaults.js";
import { messageOf } from "../errors.js";
import type { Logger } from "../logger.js";
import type { Provider } from "../providers/provider.js";
import { loadPipelines } from "../database/load-pipelines.sql.js";
import type { Pipeline } from "../database/pipeline.js";
import { setPipelineError } from "./pipeline-state.sql.js";
import { isBusy } from "./wake/serve.sql.js";
import { dimensionMisfit } from "./dimension-misfit.js";
import type { PipelineRunner, RunnerState } from "./pipeline-runner.js";
import type { Presence } from "./wake/presence.js";
import { parseTemplate } from "./embed/template.js";

/** The pipelines that this worker serves, kept in step with embedd.pipelines and the tables' shapes. */
export interface PipelineSet {
  /** Reads the pipelines, starts what is new, stops what is gone, paused or unfit. */
  refresh(): Promise<void>;
  /** The same without an answer, after whatever refresh is under way. */
  refreshSoon(): void;
  wake(pipelineId: number): void;
  wakeAll(): void;
  ids(): number[];
  /** Why pipelines that are ours by their model are not served. */
  problems(): string[];
  /** Whether a pipeline would be ours if workers of another model let go of it. */
  waits(): boolean;
  /** Resolves when every runner sleeps, or waits for long. */
  idle(): Promise<void>;
  stop(): Promise<void>;
}

export interface PipelineSetOptions {
  pool: Pool;
  provider: Provider;
  log: Logger;
  presence: Pick<Presence, "serve" | "unserve">;
  startRunner: (pipeline: Pipeline, onState: (state: RunnerState) => void) => PipelineRunner;
  /** For how long the workers of another model are to be gone before this one takes over from them. @default 30000 */
  takeoverMs?: number | undefined;
}

/** What is being computed may still end in this time when a pipeline is paused, changed or removed. */
const PAUSE_GRACE_MS = 500;

interface Running {
  runner: PipelineRunner;
  /** Any difference starts the runner anew. */
  shape: string;
  state: RunnerState;
}

export function createPipelineSet(options: PipelineSetOptions): PipelineSet {
  const { pool, provider, log, presence, startRunner, takeoverMs = DEFAULTS.takeoverMs } = options;
  const running = new Map<number, Running>();
  const problems = new Map<number, string>();
  const waits = new Map<number, string>();
  /** Whom a pipeline that was refused is left to, and since when nobody serves it; null: somebody does. */
  const left = new Map<number, { model: string | null; since: number | null }>();
  const idleWaiters = new Set<() => void>();
  let stopping = false;
  let refreshing: Promise<void> = Promise.resolve();

  const checkIdle = () => {
    if ([...running.values()].every(({ state }) => state !== "busy"))
      for (const resolve of idleWaiters) resolve();
  };

  async function refresh(): Promise<void> {
    const { pipelines, broken } = await loadPipelines(pool);
    const mine = pipelines.filter((p) => !p.paused && (p.model === null || p.model === provider.model));
    const reasons = new Map(broken.map((b) => [b.id, b.reason]));
    const wanted = new Map<number, Pipeline>();
    const waiting = new Map<number, string>();
    for (const id of left.keys()) if (!mine.some((p) => p.id === id)) left.delete(id);
    for (const pipeline of mine) {
      const reason = misfit(pipeline, provider);
      const other =
        reason === null ? (graceReason(pipeline) ?? (await askToServe(pipeline))) : servedByOthers(pipeline);
      if (other !== null) waiting.set(pipeline.id, other);
      else if (reason !== null) reasons.set(pipeline.id, reason);
      else wanted.set(pipeline.id, pipeline);
    }
    reportWaits(waiting);
    // What is wrong with a pipeline is for those to say who serve it.
    await report([...mine.filter((p) => !waiting.has(p.id)), ...broken], reasons);

    const leaving = [...running].filter(([id, { shape }]) => {
      const next = wanted.get(id);
      return next === undefined || shapeOf(next) !== shape;
    });
    await Promise.all(
      leaving.map(async ([id, { runner }]) => {
        await runner.stop(PAUSE_GRACE_MS);
        running.delete(id);
        if (!wanted.has(id)) await presence.unserve(id);
      }),
    );
    if (stopping) return;
    for (const [id, pipeline] of wanted) if (!running.has(id)) start(pipeline);
    checkIdle();
  }

  /**
   * Null: we may ask. A worker that is restarted, or whose database is, gets back what it served; so one that
   * was refused asks again only when nobody has served the pipeline for a while.
   */
  function graceReason({ id, relation, model, served, servedModel }: Pipeline): string | null {
    const entry = left.get(id);
    if (entry === undefined) return null;
    if (model !== null || servedModel === provider.model) {
      left.delete(id);
      return null;
    }
    if (served) {
      entry.since = null;
      return null;
    }
    entry.since ??= performance.now();
    if (performance.now() - entry.since >= takeoverMs) return null;
    return (
      `${relation} was served with ${entry.model ?? "another model"}; if no worker of it comes back within ` +
      `${Math.ceil(takeoverMs / 1_000)} s, ${provider.model} takes over`
    );
  }

  /** Null: it is ours; otherwise why not. */
  async function askToServe(pipeline: Pipeline): Promise<string | null> {
    try {
      const { granted, byModel, byWorker } = await presence.serve(pipeline.id, provider.model);
      if (granted) {
        left.delete(pipeline.id);
        return null;
      }
      left.set(pipeline.id, { model: byModel, since: null });
      return waitReason(pipeline, provider.model, byModel, byWorker);
    } catch (error) {
      if (!isBusy(error)) throw error;
      return running.has(pipeline.id) ? null : `${pipeline.relation}: its row of embedd.pipelines is locked`;
    }
  }

  function servedByOthers(pipeline: Pipeline): string | null {
    const others = pipeline.model === null && pipeline.served && pipeline.servedModel !== provider.model;
    return others ? waitReason(pipeline, provider.model, pipeline.servedModel, pipeline.servedBy) : null;
  }

  function reportWaits(now: ReadonlyMap<number, string>): void {
    for (const [id, reason] of now) if (waits.get(id) !== reason) log.warn({ pipeline: id }, reason);
    waits.clear();
    for (const [id, reason] of now) waits.set(id, reason);
  }

  function start(pipeline: Pipeline): void {
    log.info({ pipeline: pipeline.id, relation: pipeline.relation }, "serving");
    const runner = startRunner(pipeline, (state) => {
      entry.state = state;
      checkIdle();
    });
    const entry: Running = { runner, shape: shapeOf(pipeline), state: "busy" };
    running.set(pipeline.id, entry);
  }

  /** Says what has changed since the last time, in the log and in embedd.status. */
  async function report(
    all: readonly { id: number; relation: string; error: string | null }[],
    reasons: ReadonlyMap<number, string>,
  ): Promise<void> {
    for (const { id, relation, error } of all) {
      const reason = reasons.get(id) ?? null;
      if (reason !== null && problems.get(id) !== reason) log.error({ pipeline: id, relation }, reason);
      if (reason === error) continue;
      await setPipelineError(pool, id, reason).catch((cause: unknown) => {
        log.debug({ cause: messageOf(cause) }, "could not write the pipeline's state");
      });
    }
    problems.clear();
    for (const [id, reason] of reasons) problems.set(id, reason);
  }

  return {
    refresh,
    refreshSoon() {
      refreshing = refreshing.then(async () => {
        if (stopping) return;
        await refresh().catch((error: unknown) => {
          log.warn({ cause: messageOf(error) }, "could not read the pipelines");
        });
      });
    },
    wake: (id) => running.get(id)?.runner.wake(),
    wakeAll() {
      for (const { runner } of running.values()) runner.wake();
    },
    ids: () => [...running.keys()],
    problems: () => [...problems.values(), ...waits.values()],
    waits: () => waits.size > 0,
    idle: () =>
      new Promise((resolve) => {
        const done = () => {
          idleWaiters.delete(done);
          resolve();
        };
        idleWaiters.add(done);
        checkIdle();
      }),
    async stop() {
      stopping = true;
      await refreshing;
      await Promise.all([...running.values()].map(({ runner }) => runner.stop()));
    },
  };
}

/** All that a runner was started with. */
const shapeOf = (pipeline: Pipeline): string =>
  JSON.stringify({ ...pipeline, error: null, servedModel: null, servedBy: null, served: null });

function waitReason(
  { relation }: Pipeline,
  model: string,
  byModel: string | null,
  byWorker: number | null,
): string {
  return (
    `${relation} is served by worker ${byWorker ?? "?"} with ${byModel ?? "another model"}; to have it served by ` +
    `${model}: embedd switch-model ${relation} --model ${model}, or stop that worker`
  );
}

/** Why this provider cannot serve a pipeline, or null. */
function misfit(pipeline: Pipeline, provider: Provider): string | null {
  const dimensions = dimensionMisfit(pipeline, provider);
  if (dimensions !== null) return `${dimensions.what}; try: ${dimensions.cure}`;
  try {
    if (pipeline.template !== null) parseTemplate(pipeline.template, pipeline.contentNames);
    return null;
  } catch (error) {
    return messageOf(error);
  }
}
