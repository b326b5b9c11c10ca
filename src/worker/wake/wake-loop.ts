/**
 * The wake protocol of one pipeline, as decisions without effects.
 *
 *              found rows                    granted, or another worker sleeps
 *            ┌───────────┐                  ┌─────────────────────────────────┐
 *   start ─▶ sweeping ───┘ nothing ─▶ asking for the gate                     ▼
 *              ▲  ▲                         │ refused                   last sweep ─ nothing ─▶ asleep
 *              │  └── 1, 2, 4 … ms ◀────────┘ (a writer is in flight)         │ found rows       │ wake
 *              └──────────────────────── gate released ◀──────────────────────┴──────────────────┘
 *
 * Invariant: a row that was committed quietly is seen by a sweep that begins after its transaction ended.
 * A quiet writer held the gate shared, so the gate is granted only after it, and a sweep follows every
 * grant. A writer that found the gate taken has notified, and a wake that comes during the last sweep is
 * remembered. Where another worker sleeps with the gate, no quiet writer can have begun since it was
 * granted there, and the notification reaches all workers.
 */
export type WakeState =
  | { phase: "sweeping"; woken: boolean; refusals: number }
  | { phase: "asking"; woken: boolean; refusals: number }
  | { phase: "backing-off"; refusals: number }
  /** `holds`: this worker has the gate; otherwise another sleeper has. */
  | { phase: "last-sweep"; woken: boolean; holds: boolean }
  | { phase: "asleep"; holds: boolean };

export type WakeEvent =
  | { type: "swept"; found: boolean }
  | { type: "gate"; answer: "granted" | "refused" | "sleeper" }
  | { type: "wake" }
  | { type: "timeout" };

export interface WakeStep {
  state: WakeState;
  /** Give the gate back before anything else. */
  release: boolean;
  /** What to do next; its outcome is the next event. `none` while something is still under way. */
  action:
    | { type: "sweep" }
    | { type: "ask"; lookForSleeper: boolean }
    | { type: "wait"; ms: number }
    | { type: "sleep" }
    | { type: "none" };
}

/** How long a worker without the gate may be wrong about another sleeper that died. */
export const STANDBY_MS = 1_000;

/** After this many refusals it is worth asking whether a sleeper has the gate. */
const REFUSALS_BEFORE_LOOKING = 3;

/**
 * 1, 2, 4 … 25 ms while a writer is in flight; a transaction that stays open for longer than some
 * seconds (idle, or prepared) is looked at ten times a second at most.
 */
export function refusalDelayMs(refusals: number): number {
  return refusals > 200 ? 100 : Math.min(2 ** Math.max(refusals - 1, 0), 25);
}

export function startWakeLoop(): WakeStep {
  return sweepAgain(false);
}

export function nextWakeStep(state: WakeState, event: WakeEvent): WakeStep {
  switch (event.type) {
    case "wake":
      return onWake(state);
    case "swept":
      return onSwept(state, event.found);
    case "gate":
      return onGate(state, event.answer);
    case "timeout":
      if (state.phase === "backing-off") return sweepAgain(false, state.refusals);
      if (state.phase === "asleep" && !state.holds) return ask(REFUSALS_BEFORE_LOOKING);
      return { state, release: false, action: { type: "none" } };
  }
}

function onWake(state: WakeState): WakeStep {
  if (state.phase === "asleep") return sweepAgain(state.holds);
  if (state.phase === "backing-off") return sweepAgain(false);
  return { state: { ...state, woken: true }, release: false, action: { type: "none" } };
}

function onSwept(state: WakeState, found: boolean): WakeStep {
  if (state.phase === "last-sweep") {
    if (found || state.woken) return sweepAgain(state.holds);
    return { state: { phase: "asleep", holds: state.holds }, release: false, action: { type: "sleep" } };
  }
  if (state.phase !== "sweeping") return { state, release: false, action: { type: "none" } };
  if (found || state.woken) return sweepAgain(false);
  return ask(state.refusals);
}

function onGate(state: WakeState, answer: "granted" | "refused" | "sleeper"): WakeStep {
  if (state.phase !== "asking") return { state, release: answer === "granted", action: { type: "none" } };
  if (answer === "refused") {
    if (state.woken) return sweepAgain(false);
    const refusals = state.refusals + 1;
    return {
      state: { phase: "backing-off", refusals },
      release: false,
      action: { type: "wait", ms: refusalDelayMs(refusals) },
    };
  }
  return {
    state: { phase: "last-sweep", woken: state.woken, holds: answer === "granted" },
    release: false,
    action: { type: "sweep" },
  };
}

function sweepAgain(release: boolean, refusals = 0): WakeStep {
  return { state: { phase: "sweeping", woken: false, refusals }, release, action: { type: "sweep" } };
}

function ask(refusals: number): WakeStep {
  return {
    state: { phase: "asking", woken: false, refusals },
    release: false,
    action: { type: "ask", lookForSleeper: refusals >= REFUSALS_BEFORE_LOOKING },
  };
}
