import type { Pipeline } from "../database/pipeline.js";
import { messageOf } from "../errors.js";
import { dimensionMisfit } from "./dimension-misfit.js";
import type { ModelShape } from "../providers/model-shape.js";
import { parseTemplate } from "./embed/template.js";
import type { ServeAnswer } from "./wake/serve.sql.js";

/**
 * Which pipelines a worker serves: decisions without effects.
 *
 * Vectors of two models do not compare, so all workers that serve a pipeline at one time run one model. The
 * database guarantees it: a worker asks before it serves, and a refused worker yields the pipeline to the other
 * model's workers. Once none of them is connected, it waits for `takeoverMs` before it asks again and takes over,
 * so workers that restart, or whose database restarts, get back what they served.
 */
export type Decision = (
  | { type: "serve" }
  /** Ask the database, and follow its answer with `decideOnAnswer`. */
  | { type: "ask" }
  /** Another model's workers, or a transaction, are in the way. */
  | { type: "wait"; reason: string }
  /** This worker cannot serve the pipeline until somebody changes one of the two. */
  | { type: "unfit"; reason: string }
  /** Paused, pinned to another model, or a table that came with embedd and was never used. */
  | { type: "ignore" }
) & { yielded: Yielded | null };

/** What a worker remembers about a pipeline from its refusal on. */
export interface Yielded {
  /** The model whose workers it yielded to; null: unknown. */
  toModel: string | null;
  /** When this worker first saw that no worker serves the pipeline; null: some worker serves it. */
  unservedSinceMs: number | null;
}

export interface World {
  /** What this worker's model is called and which vectors it makes. */
  provider: ModelShape;
  /** This worker serves the pipeline now. */
  serving: boolean;
  /** As the last decision left it; null: this worker did not yield. */
  yielded: Yielded | null;
  /** The time on a clock that never goes back. */
  nowMs: number;
  takeoverMs: number;
}

/** The pipeline's properties that decide. */
export type Candidate = Pick<
  Pipeline,
  | "relation"
  | "paused"
  | "model"
  | "served"
  | "servedModel"
  | "servedBy"
  | "embedding"
  | "embeddingType"
  | "dimensions"
  | "template"
  | "contentNames"
  | "unused"
>;

export function decide(pipeline: Candidate, world: World): Decision {
  const { model } = world.provider;
  if (pipeline.paused || (pipeline.model !== null && pipeline.model !== model))
    return { type: "ignore", yielded: null };

  const { yielded } = world;
  const by = { model: pipeline.servedModel, worker: pipeline.servedBy };
  const byOthers = pipeline.model === null && pipeline.served && pipeline.servedModel !== model;
  const misfit = misfitReason(pipeline, world.provider);
  if (misfit !== null) {
    // Workers that can serve it report what is wrong with it.
    if (byOthers) return { type: "wait", reason: servedReason(pipeline, model, by), yielded };
    // embedd.chunks comes with embedd, for vectors of 384 dimensions.
    if (pipeline.unused && dimensionMisfit(pipeline, world.provider) !== null)
      return { type: "ignore", yielded };
    return { type: "unfit", reason: misfit, yielded };
  }

  if (yielded === null || pipeline.model !== null || pipeline.servedModel === model)
    return { type: "ask", yielded: null };
  if (byOthers) {
    const reason = servedReason(pipeline, model, by);
    return { type: "wait", reason, yielded: { toModel: by.model, unservedSinceMs: null } };
  }
  const unservedSinceMs = yielded.unservedSinceMs ?? world.nowMs;
  const next = { ...yielded, unservedSinceMs };
  if (world.nowMs - unservedSinceMs >= world.takeoverMs) return { type: "ask", yielded: next };
  return { type: "wait", reason: takeoverReason(pipeline, world), yielded: next };
}

/** @param answer the database's, or `busy`: another transaction holds the pipeline's row locked */
export function decideOnAnswer(pipeline: Candidate, world: World, answer: ServeAnswer | "busy"): Decision {
  if (answer === "busy") {
    const { yielded } = world;
    if (world.serving) return { type: "serve", yielded };
    const reason = `${pipeline.relation}: another transaction holds its row of embedd.pipelines locked`;
    return { type: "wait", reason, yielded };
  }
  if (answer.granted) return { type: "serve", yielded: null };
  const by = { model: answer.byModel, worker: answer.byWorker };
  return {
    type: "wait",
    reason: servedReason(pipeline, world.provider.model, by),
    yielded: { toModel: answer.byModel, unservedSinceMs: null },
  };
}

/** Why a provider cannot serve a pipeline, and what to type; null: it can. */
function misfitReason(pipeline: Candidate, provider: ModelShape): string | null {
  const dimensions = dimensionMisfit(pipeline, provider);
  if (dimensions !== null) return `${dimensions.what}; ${dimensions.cure}`;
  try {
    if (pipeline.template !== null) parseTemplate(pipeline.template, pipeline.contentNames);
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

function servedReason(
  { relation }: Candidate,
  model: string,
  by: { model: string | null; worker: number | null },
): string {
  return (
    `${relation} is served by worker ${by.worker ?? "?"} with ${by.model ?? "another model"}; to serve it with ` +
    `${model}: embedd switch-model ${relation} --model ${model}  # or stop that worker`
  );
}

function takeoverReason({ relation }: Candidate, { yielded, takeoverMs, provider }: World): string {
  return (
    `${relation} was served with ${yielded?.toModel ?? "another model"}; unless one of its workers returns ` +
    `within ${Math.ceil(takeoverMs / 1_000)} s, ${provider.model} takes over`
  );
}

/** What a worker says when it starts to serve a column that another model served before it; null: nothing. */
export function takeoverNotice(
  { relation, servedModel }: Candidate,
  { provider, serving }: Pick<World, "provider" | "serving">,
): string | null {
  if (serving || servedModel === null || servedModel === provider.model) return null;
  return (
    `${provider.model} takes over ${relation} from ${servedModel}, whose vectors do not compare with its own; ` +
    `embedd status counts them as stale, embedd reembed replaces them`
  );
}
