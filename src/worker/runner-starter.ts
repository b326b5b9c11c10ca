import { DEFAULTS } from "../defaults.js";
import type { Pipeline } from "../database/pipeline.js";
import type { Reuse } from "./embed/reuse.js";
import { templateOf } from "./embed/template.js";
import type { Usage } from "./embed/usage.js";
import { runPipeline } from "./pipeline-runner.js";
import type { OnState, PipelineRunner } from "./pipeline-runner.js";
import type { Base } from "./shut-down.js";
import type { VectorIndexes } from "./vector-index.js";
import type { Presence } from "./wake/presence.js";
import type { WorkerOptions } from "./worker-options.js";
import type { HeldRows } from "./write/held-rows.js";
import { newWritePace } from "./write/write-rows.js";

/** What the runners of all pipelines share. */
export interface Shared {
  presence: Presence;
  usage: Usage;
  reuse: Reuse;
  /** Leases to renew. */
  leases: Set<string>;
  held: HeldRows;
  indexes: VectorIndexes;
  /** A pipeline's table no longer matches its statements. */
  onShapeError: () => void;
}

/** @returns what starts the runner of one pipeline */
export function runnerStarter(options: WorkerOptions, { pool, log, abort }: Base, shared: Shared) {
  const { provider, leaseMs = DEFAULTS.leaseMs } = options;
  const { presence, usage, reuse, leases, held, indexes, onShapeError } = shared;
  const maxChars = options.maxChars ?? DEFAULTS.maxChars;
  return (pipeline: Pipeline, onState: OnState): PipelineRunner =>
    runPipeline(
      {
        pool,
        pipeline,
        kind: "pending",
        provider,
        model: provider.model,
        meter: usage.meter(pipeline.id),
        reuse,
        maxChars,
        writePace: newWritePace(),
        signal: abort.signal,
        template: templateOf(pipeline),
        retry: {
          maxAttempts: options.maxAttempts ?? DEFAULTS.maxAttempts,
          baseDelayMs: options.retryDelayMs ?? DEFAULTS.retryDelayMs,
          maxDelayMs: 3_600_000,
        },
      },
      {
        presence,
        log,
        leaseMs,
        leases,
        held,
        workerId: () => presence.workerId,
        maxBatchRows: options.maxBatchRows ?? Math.max(DEFAULTS.maxBatchRows, provider.minBatchRows ?? 0),
        batchMs: options.batchMs ?? DEFAULTS.batchMs,
        // The character beyond what is embedded tells whether a text is cut.
        maxChars: maxChars + 1,
        maxClaimChars: options.maxClaimChars ?? DEFAULTS.maxClaimChars,
        onBatch: (outcome) => options.onBatch?.(pipeline, outcome),
        onShapeError,
        onState: (state, error) => {
          if (state === "asleep") indexes.request(pipeline);
          onState(state, error);
        },
      },
    );
}

/** Everything that a runner was started with. */
export const shapeOf = (pipeline: Pipeline): string =>
  JSON.stringify({
    ...pipeline,
    error: null,
    servedModel: null,
    servedBy: null,
    served: null,
    gap: null,
    gapNow: null,
    problem: null,
  });
