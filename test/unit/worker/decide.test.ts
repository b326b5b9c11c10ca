import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decide, decideOnAnswer, takeoverNotice } from "#embedd/worker/decide.js";
import type { Candidate, Decision, World, Yielded } from "#embedd/worker/decide.js";

const TAKEOVER_MS = 30_000;

const pipeline = (changes: Partial<Candidate> = {}): Candidate => ({
  relation: "docs",
  paused: false,
  model: null,
  served: false,
  servedModel: null,
  servedBy: null,
  embedding: "embedding",
  embeddingType: "vector(384)",
  dimensions: 384,
  template: null,
  contentNames: ["body"],
  ...changes,
});

const world = (changes: Partial<World> = {}): World => ({
  provider: { model: "new", dimensions: 384, supportsDimensions: (asked) => asked === 384 },
  serving: false,
  yielded: null,
  nowMs: 1_000_000,
  takeoverMs: TAKEOVER_MS,
  ...changes,
});

const wide: World["provider"] = {
  model: "wide",
  dimensions: 8,
  supportsDimensions: (asked) => asked === 8,
};
const old = { served: true, servedModel: "old", servedBy: 7 };
const toOld = (unservedSinceMs: number | null): Yielded => ({ toModel: "old", unservedSinceMs });

describe("a worker that starts to serve a column", () => {
  it("warns if another model served it before", () => {
    expect(takeoverNotice(pipeline(old), world())).toMatch(/^new takes over docs from old, .*embedd reembed/);
  });

  it.each<[string, Partial<Candidate>, Partial<World>]>([
    ["that no worker has ever served", {}, {}],
    ["that its own model served", { servedModel: "new" }, {}],
    ["that it serves already", old, { serving: true }],
  ])("says nothing about a column %s", (_, candidate, state) => {
    expect(takeoverNotice(pipeline(candidate), world(state))).toBeNull();
  });
});

describe("what a worker does about a pipeline", () => {
  it.each<[string, Partial<Candidate>, Partial<World>, Decision["type"], string?]>([
    ["paused", { paused: true }, {}, "ignore"],
    ["pinned to another model", { model: "other" }, {}, "ignore"],
    ["pinned to this worker's model", { model: "new" }, {}, "ask"],
    ["that no worker has ever served", {}, {}, "ask"],
    ["served with this worker's model", { served: true, servedModel: "new", servedBy: 3 }, {}, "ask"],
    ["served with another model, for the first time", old, {}, "ask"],
    ["with other dimensions", {}, { provider: wide }, "unfit", "docs is vector(384), but wide makes 8 dim"],
    ["with other dimensions, served by others", old, { provider: wide }, "wait", "by worker 7 with old"],
    [
      "with other dimensions, pinned to this worker's model, served by others",
      { ...old, model: "wide" },
      { provider: wide },
      "unfit",
      "wide makes 8 dimensions",
    ],
    ["with a template that names no content column", { template: "{title}" }, {}, "unfit", "{title}"],
    ["yielded to workers that serve it", old, { yielded: toOld(5) }, "wait", "by worker 7 with old"],
    [
      "yielded, and seen unserved just now",
      { servedModel: "old" },
      { yielded: toOld(null) },
      "wait",
      "docs was served with old; unless one of its workers returns within 30 s, new takes over",
    ],
    ["yielded, unserved for a while", {}, { yielded: toOld(1_000_000 - TAKEOVER_MS + 1) }, "wait"],
    ["yielded, unserved for long enough", {}, { yielded: toOld(1_000_000 - TAKEOVER_MS) }, "ask"],
    ["yielded, then pinned to this worker's model", { model: "new" }, { yielded: toOld(null) }, "ask"],
    ["yielded, then served with this worker's model", { servedModel: "new" }, { yielded: toOld(5) }, "ask"],
  ])("%s", (_, candidate, state, type, reason) => {
    const decision = decide(pipeline(candidate), world(state));
    expect(decision.type).toBe(type);
    if (reason !== undefined)
      expect(decision).toMatchObject({ reason: expect.stringContaining(reason) as string });
  });

  it.each<[string, Parameters<typeof decideOnAnswer>[2], Partial<World>, Decision]>([
    ["granted", { granted: true, byModel: "new", byWorker: 1 }, {}, { type: "serve", yielded: null }],
    [
      "granted after it yielded",
      { granted: true, byModel: "new", byWorker: 1 },
      { yielded: toOld(5) },
      { type: "serve", yielded: null },
    ],
    [
      "refused",
      { granted: false, byModel: "old", byWorker: 7 },
      { yielded: toOld(5) },
      {
        type: "wait",
        reason:
          "docs is served by worker 7 with old; to serve it with new: embedd switch-model docs --model new  # or stop that worker",
        yielded: toOld(null),
      },
    ],
    ["busy while it serves", "busy", { serving: true }, { type: "serve", yielded: null }],
    [
      "busy before it serves",
      "busy",
      { yielded: toOld(5) },
      {
        type: "wait",
        reason: "docs: another transaction holds its row of embedd.pipelines locked",
        yielded: toOld(5),
      },
    ],
  ])("the database's answer is: %s", (_, answer, state, decision) => {
    expect(decideOnAnswer(pipeline(), world(state), answer)).toEqual(decision);
  });

  it("counts the time from when it first saw no worker, and restarts when a worker returns", () => {
    const seen = (nowMs: number, served: boolean, yielded: Yielded | null) =>
      decide(pipeline({ ...old, served }), world({ nowMs, yielded }));
    const first = seen(1_000, false, toOld(null));
    expect(first.yielded).toEqual(toOld(1_000));
    expect(seen(20_000, false, first.yielded).yielded).toEqual(toOld(1_000));
    expect(seen(20_000, true, first.yielded)).toMatchObject({ type: "wait", yielded: toOld(null) });
  });
});

/**
 * A model of one pipeline and workers of several models that start, stop and refresh at any time. The database
 * grants as embedd.serve does. A refresh reads first and decides later, so what it read may be outdated.
 */
interface WorkerModel {
  model: string;
  up: boolean;
  serving: boolean;
  yielded: Yielded | null;
  read: (Pick<Candidate, "served" | "servedModel" | "servedBy"> & { atMs: number }) | null;
  /** The latest time at which it knew that some worker served the pipeline. */
  knewServedMs: number;
}

interface Action {
  kind: "read" | "decide" | "refresh" | "start" | "stop";
  worker: number;
  ms: number;
}

const fit = (model: string): World["provider"] => ({
  model,
  dimensions: 384,
  supportsDimensions: () => true,
});

class Simulation {
  nowMs = 0;
  servedModel: string | null = null;
  readonly workers: WorkerModel[];
  takeovers = 0;

  constructor(models: readonly string[]) {
    this.workers = models.map((model) => ({
      model,
      up: false,
      serving: false,
      yielded: null,
      read: null,
      knewServedMs: -1,
    }));
  }

  servingModels(): Set<string> {
    return new Set(this.workers.filter(({ serving }) => serving).map(({ model }) => model));
  }

  apply({ kind, worker: index, ms }: Action): void {
    this.nowMs += ms;
    const worker = this.workers[index % this.workers.length];
    if (worker === undefined) return;
    if (kind === "start") worker.up = true;
    else if (kind === "stop") Object.assign(worker, { up: false, serving: false, yielded: null, read: null });
    else if (worker.up) {
      if (kind !== "decide") this.read(worker);
      if (kind !== "read") this.decide(worker);
    }
  }

  read(worker: WorkerModel): void {
    const served = this.servingModels().size > 0;
    worker.read = { served, servedModel: this.servedModel, servedBy: 1, atMs: this.nowMs };
  }

  decide(worker: WorkerModel): void {
    if (worker.read === null) return;
    const { atMs, ...read } = worker.read;
    const candidate = pipeline(read);
    if (read.served) worker.knewServedMs = atMs;
    const state = (): World => ({
      provider: fit(worker.model),
      serving: worker.serving,
      yielded: worker.yielded,
      nowMs: this.nowMs,
      takeoverMs: TAKEOVER_MS,
    });
    worker.read = null;
    const hadYielded = worker.yielded !== null && candidate.servedModel !== worker.model;
    let decision = decide(candidate, state());
    worker.yielded = decision.yielded;
    if (decision.type === "ask") {
      const others = this.workers.some((w) => w.serving && w.model !== worker.model);
      const granted = this.servedModel === null || this.servedModel === worker.model || !others;
      decision = decideOnAnswer(candidate, state(), { granted, byModel: this.servedModel, byWorker: 1 });
      worker.yielded = decision.yielded;
      if (granted) this.servedModel = worker.model;
      else worker.knewServedMs = this.nowMs;
    }
    expect(["serve", "wait"]).toContain(decision.type);
    worker.serving = decision.type === "serve";
    if (worker.serving && hadYielded) {
      this.takeovers++;
      // As far as this worker knew, no worker served the pipeline during this time.
      expect(this.nowMs - worker.knewServedMs).toBeGreaterThanOrEqual(TAKEOVER_MS);
    }
  }
}

describe("workers of several models that start, stop and refresh in any order", () => {
  const models = ["old", "old", "new", "third"];
  const action = fc.record<Action>({
    kind: fc.oneof(
      { weight: 6, arbitrary: fc.constant("refresh" as const) },
      { weight: 4, arbitrary: fc.constantFrom("read" as const, "decide" as const) },
      { weight: 2, arbitrary: fc.constantFrom("start" as const, "stop" as const) },
    ),
    worker: fc.nat(models.length - 1),
    ms: fc.oneof(fc.nat(3_000), fc.nat(2 * TAKEOVER_MS)),
  });

  it("never serve with two models at once, and take over only after the time that they must wait", () => {
    let takeovers = 0;
    fc.assert(
      fc.property(fc.array(action, { minLength: 30, maxLength: 150, size: "max" }), (actions) => {
        const simulation = new Simulation(models);
        for (const next of actions) {
          simulation.apply(next);
          expect(simulation.servingModels().size).toBeLessThanOrEqual(1);
        }
        takeovers += simulation.takeovers;
      }),
      { numRuns: 500 },
    );
    // Otherwise the property would say nothing.
    expect(takeovers).toBeGreaterThan(10);
  });

  it("leave no pipeline unserved, regardless of what happened before", () => {
    fc.assert(
      fc.property(
        fc.array(action, { maxLength: 100, size: "max" }),
        fc.nat(models.length - 1),
        (actions, survivor) => {
          const simulation = new Simulation(models);
          for (const next of actions) simulation.apply(next);
          models.forEach((_, worker) => {
            if (worker !== survivor) simulation.apply({ kind: "stop", worker, ms: 0 });
          });
          simulation.apply({ kind: "start", worker: survivor, ms: 0 });
          for (let second = 0; second <= TAKEOVER_MS / 1_000 + 2; second++)
            simulation.apply({ kind: "refresh", worker: survivor, ms: 1_000 });
          expect([...simulation.servingModels()]).toEqual([models[survivor]]);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("give back what a worker served that returns in time", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: TAKEOVER_MS - 1_000 }), (awayMs) => {
        const simulation = new Simulation(["old", "new"]);
        const refresh = (worker: number, ms = 0) => {
          simulation.apply({ kind: "refresh", worker, ms });
        };
        simulation.apply({ kind: "start", worker: 0, ms: 0 });
        simulation.apply({ kind: "start", worker: 1, ms: 0 });
        refresh(0);
        refresh(1);
        simulation.apply({ kind: "stop", worker: 0, ms: 0 });
        for (let ms = 0; ms < awayMs; ms += 1_000) refresh(1, 1_000);
        simulation.apply({ kind: "start", worker: 0, ms: 0 });
        refresh(0);
        refresh(1);
        expect([...simulation.servingModels()]).toEqual(["old"]);
      }),
    );
  });
});
