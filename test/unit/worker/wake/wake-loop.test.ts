import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  LONG_REFUSALS,
  nextWakeStep,
  refusalDelayMs,
  sleepMs,
  startWakeLoop,
} from "#embedd/worker/wake/wake-loop.js";
import type { WakeEvent, WakeStep } from "#embedd/worker/wake/wake-loop.js";

function play(events: WakeEvent[]): WakeStep {
  return events.reduce((step, event) => nextWakeStep(step.state, event), startWakeLoop());
}

const nothing: WakeEvent = { type: "swept", found: false };
const some: WakeEvent = { type: "swept", found: true };
const granted: WakeEvent = { type: "gate", answer: "granted" };
const refused: WakeEvent = { type: "gate", answer: "refused" };
const sleeper: WakeEvent = { type: "gate", answer: "sleeper" };
const more: WakeEvent = { type: "reembedded", more: true };
const noMore: WakeEvent = { type: "reembedded", more: false };
const wake: WakeEvent = { type: "wake" };
const timeout: WakeEvent = { type: "timeout" };

describe("the wake loop", () => {
  it("sweeps while it finds rows, then asks for the gate", () => {
    expect(play([some, some]).action).toEqual({ type: "sweep" });
    expect(play([some, nothing]).action).toMatchObject({ type: "ask" });
  });

  it("sweeps once more after the gate was granted, then re-embeds, and only then sleeps", () => {
    expect(play([nothing, granted]).action).toEqual({ type: "sweep" });
    expect(play([nothing, granted, nothing]).action).toEqual({ type: "reembed" });
    expect(play([nothing, granted, nothing, noMore]).action).toEqual({ type: "sleep" });
  });

  it("keeps the gate and re-embeds until nothing is left or a wake-up comes", () => {
    const step = play([nothing, granted, nothing, more, more]);
    expect(step).toMatchObject({ release: false, action: { type: "reembed" } });
    expect(nextWakeStep(step.state, noMore).action).toEqual({ type: "sleep" });
    for (const outcome of [more, noMore]) {
      const woken = nextWakeStep(step.state, wake);
      expect(woken).toMatchObject({ release: false, action: { type: "none" } });
      expect(nextWakeStep(woken.state, outcome)).toMatchObject({ release: true, action: { type: "sweep" } });
    }
  });

  it("asks for the gate between two batches of stale rows while another sleeper has it", () => {
    expect(play([nothing, sleeper, nothing]).action).toEqual({ type: "reembed" });
    expect(play([nothing, sleeper, nothing, more]).action).toEqual({ type: "ask", lookForSleeper: true });
  });

  it("sleeps on when a sleep with the gate ends without a wake-up", () => {
    expect(play([nothing, granted, nothing, noMore, timeout])).toMatchObject({
      state: { phase: "asleep", holds: true },
      release: false,
      action: { type: "sleep" },
    });
  });

  it("releases the gate before it sweeps again", () => {
    expect(play([nothing, granted, some])).toMatchObject({ release: true, action: { type: "sweep" } });
    expect(play([nothing, granted, nothing, noMore, wake])).toMatchObject({
      release: true,
      action: { type: "sweep" },
    });
  });

  it("backs off while writers are in flight, sweeping in between", () => {
    expect(play([nothing, refused]).action).toEqual({ type: "wait", ms: 1 });
    expect(play([nothing, refused, timeout]).action).toEqual({ type: "sweep" });
    expect(play([nothing, refused, timeout, nothing, refused]).action).toEqual({ type: "wait", ms: 2 });
    expect([1, 2, 3, 4, 5, 6, 50].map(refusalDelayMs)).toEqual([1, 2, 4, 8, 16, 25, 25]);
  });

  it("re-embeds and sleeps while a session keeps the gate for seconds, and sweeps ten times a second", () => {
    const long = Array.from({ length: LONG_REFUSALS }, () => [nothing, refused, timeout]).flat();
    const blocked = play([...long, nothing, refused]);
    expect(blocked).toMatchObject({ release: false, action: { type: "reembed" } });
    const asleep = nextWakeStep(blocked.state, noMore);
    expect(asleep.action).toEqual({ type: "sleep" });
    expect(sleepMs(asleep.state)).toBe(100);
    for (const step of [nextWakeStep(asleep.state, timeout), nextWakeStep(blocked.state, more)]) {
      expect(step.action).toEqual({ type: "sweep" });
      // It is refused once more, and at once re-embeds again; or it gets the gate as always.
      expect(nextWakeStep(nextWakeStep(step.state, nothing).state, refused).action.type).toBe("reembed");
      const gate = nextWakeStep(nextWakeStep(step.state, nothing).state, granted);
      expect(gate).toMatchObject({ state: { phase: "last-sweep", holds: true }, action: { type: "sweep" } });
    }
    expect(nextWakeStep(asleep.state, wake).action).toEqual({ type: "sweep" });
  });

  it("does not sleep after a wake-up that came during the last sweep", () => {
    expect(play([nothing, granted, wake, nothing])).toMatchObject({
      release: true,
      action: { type: "sweep" },
    });
  });

  it("sleeps without the gate while another sleeper has it, and asks again in case that one dies", () => {
    const step = play([nothing, sleeper, nothing, noMore]);
    expect(step.action).toEqual({ type: "sleep" });
    expect(sleepMs(step.state)).toBe(1_000);
    expect(nextWakeStep(step.state, timeout).action).toEqual({ type: "ask", lookForSleeper: true });
    expect(nextWakeStep(step.state, wake)).toMatchObject({ release: false, action: { type: "sweep" } });
  });
});

/**
 * A model of PostgreSQL around a few wake loops, with every effect as one atomic step: writers that begin
 * (gate shared or notify), commit or roll back; workers whose actions end in any order; notifications that
 * are delivered late or twice; stale rows. When everything has come to rest, no row may be pending or stale.
 */
interface World {
  gateOwner: number | null;
  quiet: Set<number>;
  open: Map<number, { notifies: boolean }>;
  pendingRows: number;
  staleRows: number;
  mailbox: number[];
  workers: { step: WakeStep; woken: boolean; sawRows: boolean }[];
}

function runWorld(workers: number, choices: number[], loseGateOfDying: boolean, staleRows = 0): World {
  const world: World = {
    gateOwner: null,
    quiet: new Set(),
    open: new Map(),
    pendingRows: 0,
    staleRows,
    mailbox: Array.from({ length: workers }, () => 0),
    workers: Array.from({ length: workers }, () => ({ step: startWakeLoop(), woken: false, sawRows: false })),
  };
  let writer = 0;
  for (const choice of choices) {
    const kind = choice % 5;
    const pick = Math.floor(choice / 5);
    if (kind === 0) begin(world, writer++);
    else if (kind === 1) end(world, pick, true);
    else if (kind === 2) end(world, pick, pick % 7 !== 0);
    else if (kind === 3) deliver(world, pick % workers, pick % 3 === 0);
    else advance(world, pick % workers);
    if (loseGateOfDying && choice % 97 === 0) die(world, pick % workers);
  }
  // Rest: every transaction ends, every notification arrives, every worker runs until all sleep.
  for (const id of [...world.open.keys()]) end(world, id, true, true);
  for (let round = 0; round < 400; round++) {
    for (let w = 0; w < workers; w++) {
      deliver(world, w, false);
      // A sleeper without the gate asks again every second. That is how it notices the other's death.
      advance(world, w, round % 20 === 19 && round < 390);
    }
  }
  return world;
}

function begin(world: World, id: number): void {
  const free = world.gateOwner === null;
  if (free) world.quiet.add(id);
  world.open.set(id, { notifies: !free });
}

function end(world: World, pick: number, commit: boolean, exact = false): void {
  const ids = [...world.open.keys()];
  const id = exact ? pick : ids[pick % Math.max(ids.length, 1)];
  const transaction = id === undefined ? undefined : world.open.get(id);
  if (id === undefined || transaction === undefined) return;
  if (commit) {
    world.pendingRows++;
    if (transaction.notifies) world.mailbox = world.mailbox.map((n) => n + 1);
  }
  world.open.delete(id);
  world.quiet.delete(id);
}

function deliver(world: World, w: number, twice: boolean): void {
  const worker = world.workers[w];
  if (worker === undefined || (world.mailbox[w] ?? 0) === 0) return;
  if (!twice) world.mailbox[w] = 0;
  worker.woken = true;
}

function advance(world: World, w: number, timer = true): void {
  const worker = world.workers[w];
  if (worker === undefined) return;
  let event: WakeEvent;
  const { action } = worker.step;
  if (action.type === "sweep") {
    event = { type: "swept", found: world.pendingRows > 0 };
    world.pendingRows = 0;
  } else if (action.type === "ask") {
    const answer =
      world.gateOwner === null && world.quiet.size === 0
        ? "granted"
        : world.gateOwner !== null && action.lookForSleeper
          ? "sleeper"
          : "refused";
    if (answer === "granted") world.gateOwner = w;
    event = { type: "gate", answer };
  } else if (action.type === "reembed") {
    // A worker that re-embeds can be woken: a writer that begins now finds the gate taken.
    if (worker.step.state.phase === "re-embedding" && worker.step.state.holds)
      expect(world.gateOwner).toBe(w);
    if (!worker.woken && world.staleRows > 0) world.staleRows--;
    event = { type: "reembedded", more: world.staleRows > 0 };
  } else if (worker.woken) {
    worker.woken = false;
    event = { type: "wake" };
  } else if (
    action.type === "wait" ||
    (timer && worker.step.state.phase === "asleep" && !worker.step.state.holds)
  ) {
    event = { type: "timeout" };
  } else return;
  let step = worker.step;
  if (worker.woken && event.type !== "wake") {
    worker.woken = false;
    step = nextWakeStep(step.state, { type: "wake" });
  }
  step = nextWakeStep(step.state, event);
  // Nothing is running once an outcome has come, so there must be something to do.
  expect(step.action.type).not.toBe("none");
  if (step.release && world.gateOwner === w) world.gateOwner = null;
  worker.step = step;
}

function die(world: World, w: number): void {
  if (world.gateOwner === w) world.gateOwner = null;
  world.workers[w] = { step: startWakeLoop(), woken: false, sawRows: false };
}

describe("the wake loop among writers and workers in any order", () => {
  const choices = fc.array(fc.nat(10_000), { minLength: 10, maxLength: 300 });

  it.each([1, 2, 3])("leaves no row pending (%i workers)", (workers) => {
    fc.assert(
      fc.property(choices, fc.boolean(), fc.nat(20), (sequence, dying, staleRows) => {
        const world = runWorld(workers, sequence, dying, staleRows);
        expect(world.pendingRows).toBe(0);
        expect(world.staleRows).toBe(0);
        expect(world.workers.map(({ step }) => step.action.type)).toEqual(world.workers.map(() => "sleep"));
        expect(world.gateOwner).not.toBeNull();
      }),
      { numRuns: 2_000 },
    );
  });

  it("never lets a worker sleep or re-embed while a row is committed that no worker was told of", () => {
    fc.assert(
      fc.property(choices, fc.nat(500), (sequence, staleRows) => {
        const world = runWorld(2, sequence, false, staleRows);
        const asleep = world.workers.every(
          ({ step, woken }) => ["sleep", "reembed"].includes(step.action.type) && !woken,
        );
        if (asleep && world.mailbox.every((n) => n === 0)) expect(world.pendingRows).toBe(0);
      }),
      { numRuns: 500 },
    );
  });
});
