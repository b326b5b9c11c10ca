import type { Pool } from "pg";
import { messageOf } from "../errors.js";
import type { Logger } from "../logger.js";
import type { Provider } from "../providers/provider.js";
import { loadPipelines } from "../sql/load-pipelines.js";
import type { Pipeline } from "../sql/pipeline.js";
import { setPipelineError } from "../sql/pipeline-state.js";
import type { PipelineRunner, RunnerState } from "./pipeline-runner.js";
import { parseTemplate } from "./template.js";

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
  /** Resolves when every runner sleeps, or waits for long. */
  idle(): Promise<void>;
  stop(): Promise<void>;
}

export interface PipelineSetOptions {
  pool: Pool;
  provider: Provider;
  log: Logger;
  startRunner: (pipeline: Pipeline, onState: (state: RunnerState) => void) => PipelineRunner;
}

/** What is being computed may still end in this time when a pipeline is paused, changed or removed. */
const PAUSE_GRACE_MS = 500;

interface Running {
  runner: PipelineRunner;
  /** Any difference starts the runner anew. */
  shape: string;
  state: RunnerState;
}

export function createPipelineSet({ pool, provider, log, startRunner }: PipelineSetOptions): PipelineSet {
  const running = new Map<number, Running>();
  const problems = new Map<number, string>();
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
    for (const pipeline of mine) {
      const reason = misfit(pipeline, provider);
      if (reason !== null) reasons.set(pipeline.id, reason);
    }
    await report([...mine, ...broken], reasons);

    const wanted = new Map(mine.filter((p) => !reasons.has(p.id)).map((p) => [p.id, p]));
    const leaving = [...running].filter(([id, { shape }]) => {
      const next = wanted.get(id);
      return next === undefined || shapeOf(next) !== shape;
    });
    await Promise.all(
      leaving.map(async ([id, { runner }]) => {
        await runner.stop(PAUSE_GRACE_MS);
        running.delete(id);
      }),
    );
    if (stopping) return;
    for (const [id, pipeline] of wanted) if (!running.has(id)) start(pipeline);
    checkIdle();
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
    problems: () => [...problems.values()],
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
const shapeOf = (pipeline: Pipeline): string => JSON.stringify({ ...pipeline, error: null });

/** Why this provider cannot serve a pipeline, or null. */
function misfit(pipeline: Pipeline, provider: Provider): string | null {
  if (!provider.supportsDimensions(pipeline.dimensions)) {
    return (
      `column ${pipeline.embedding} of ${pipeline.relation} is ${pipeline.embeddingType}, ` +
      `but ${provider.model} makes ${provider.dimensions} dimensions`
    );
  }
  try {
    if (pipeline.template !== null) parseTemplate(pipeline.template, pipeline.contentNames);
    return null;
  } catch (error) {
    return messageOf(error);
  }
}
