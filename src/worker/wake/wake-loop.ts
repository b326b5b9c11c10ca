/**
 * The wake protocol of one pipeline: decisions without effects.
 *
 *              found rows                    granted, or another worker sleeps
 *            ┌───────────┐                  ┌─────────────────────────────────┐
 *   start ─▶ sweeping ───┘ nothing ─▶ asking for the gate                     ▼
 *              ▲  ▲                         │ refused           found rows  last sweep
 *              │  └── 1, 2, 4 … ms ◀────────┘ (a writer        ┌──────────────┤
 *              │                               is in flight)   │              ▼ nothing
 *              └─────────────── gate released ◀────────────────┼─ wake ─ re-embedding ⟲ more stale rows
 *                                                              │              ▼ nothing left
 *                                                              └─ wake ──── asleep
 *
 * Invariant: a row that was committed quietly is seen by a sweep that begins after its transaction ended.
 * A quiet writer held the gate shared, so the gate is granted only after that writer ended, and a sweep follows
 * every grant. A writer that found the gate taken has notified, and a wake-up during the last sweep or during
 * re-embedding is remembered. If another worker sleeps with the gate, no quiet writer can have begun since the
 * gate was granted to it, and the notification reaches all workers.
 *
 * A session may keep the gate shared for as long as it likes: an idle transaction, a prepared one, or a stranger. After
 * `LONG_REFUSALS` the worker is blocked: it sweeps, re-embeds and sleeps for 100 ms in turns, and asks each time. The
 * invariant holds, because a sweep follows every such sleep.
 *
 * Stale rows are re-embedded only here, between the last sweep and sleep: any pending row comes first.
 */
export type WakeState =
  | { phase: "sweeping"; woken: boolean; refusals: number }
  | { phase: "asking"; woken: boolean; refusals: number }
  | { phase: "backing-off"; refusals: number }
  /** `holds`: this worker has the gate; otherwise another sleeper has it. */
  | { phase: "last-sweep"; woken: boolean; holds: boolean }
  /** `refusals` is not 0: nobody sleeps with the gate, and this worker is blocked. */
  | { phase: "re-embedding"; woken: boolean; holds: boolean; refusals: number }
  | { phase: "asleep"; holds: boolean; refusals: number };

/** The outcome of an action; `wake` may also come while an action runs. */
export type WakeEvent =
  | { type: "swept"; found: boolean }
  | { type: "gate"; answer: "granted" | "refused" | "sleeper" }
  /** `more`: stale rows may be left that can be re-embedded at once. */
  | { type: "reembedded"; more: boolean }
  | { type: "wake" }
  | { type: "timeout" };

export interface WakeStep {
  state: WakeState;
  /** Release the gate before the action. */
  release: boolean;
  /** What to do next; its outcome is the next event. */
  action:
    | { type: "sweep" }
    | { type: "ask"; lookForSleeper: boolean }
    | { type: "wait"; ms: number }
    | { type: "reembed" }
    | { type: "sleep" }
    /** An action is still running. Only a wake-up during an action leads here. */
    | { type: "none" };
}

/** How long a worker without the gate may take to notice that the sleeper with the gate died. */
const STANDBY_MS = 1_000;
/** The longest timer that Node.js has, about 25 days. */
const LONGEST_SLEEP_MS = 2 ** 31 - 1;

/** After this many refusals, a worker checks whether a sleeper has the gate. */
const REFUSALS_BEFORE_LOOKING = 3;

/** About five seconds of refusals. */
export const LONG_REFUSALS = 200;

/**
 * 1, 2, 4 … 25 ms while a writer is in flight. If a transaction stays open for more than a few seconds
 * (idle, or prepared), the worker asks at most ten times a second.
 */
export function refusalDelayMs(refusals: number): number {
  return refusals > LONG_REFUSALS ? 100 : Math.min(2 ** Math.max(refusals - 1, 0), 25);
}

/** How long a worker sleeps unless it is woken. */
export function sleepMs(state: WakeState): number {
  if (state.phase !== "asleep") return 0;
  if (state.holds) return LONGEST_SLEEP_MS;
  return state.refusals > 0 ? refusalDelayMs(state.refusals) : STANDBY_MS;
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
    case "reembedded":
      return onReembedded(state, event.more);
    case "timeout":
      return onTimeout(state);
  }
}

function onWake(state: WakeState): WakeStep {
  if (state.phase === "asleep") return sweepAgain(state.holds);
  if (state.phase === "backing-off") return sweepAgain(false);
  return stillRunning({ ...state, woken: true });
}

function onSwept(state: WakeState, found: boolean): WakeStep {
  if (state.phase === "last-sweep") {
    if (found || state.woken) return sweepAgain(state.holds);
    return reembed(state.holds);
  }
  if (state.phase !== "sweeping") return stillRunning(state);
  if (found || state.woken) return sweepAgain(false);
  return ask(state.refusals);
}

function onGate(state: WakeState, answer: "granted" | "refused" | "sleeper"): WakeStep {
  if (state.phase !== "asking") return { ...stillRunning(state), release: answer === "granted" };
  if (answer === "refused") {
    if (state.woken) return sweepAgain(false);
    const refusals = state.refusals + 1;
    if (refusals > LONG_REFUSALS) return reembed(false, refusals);
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

function onReembedded(state: WakeState, more: boolean): WakeStep {
  if (state.phase !== "re-embedding") return stillRunning(state);
  if (state.woken) return sweepAgain(state.holds);
  if (!more) return sleep(state.holds, state.refusals);
  if (state.refusals > 0) return sweepAgain(false, state.refusals);
  // Without the gate, the sleeper that has it may have died meanwhile.
  return state.holds ? reembed(true) : ask(REFUSALS_BEFORE_LOOKING);
}

function onTimeout(state: WakeState): WakeStep {
  if (state.phase === "backing-off") return sweepAgain(false, state.refusals);
  if (state.phase !== "asleep") return stillRunning(state);
  if (state.refusals > 0) return sweepAgain(false, state.refusals);
  return state.holds ? sleep(true) : ask(REFUSALS_BEFORE_LOOKING);
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

function reembed(holds: boolean, refusals = 0): WakeStep {
  return {
    state: { phase: "re-embedding", woken: false, holds, refusals },
    release: false,
    action: { type: "reembed" },
  };
}

function sleep(holds: boolean, refusals = 0): WakeStep {
  return { state: { phase: "asleep", holds, refusals }, release: false, action: { type: "sleep" } };
}

function stillRunning(state: WakeState): WakeStep {
  return { state, release: false, action: { type: "none" } };
}
