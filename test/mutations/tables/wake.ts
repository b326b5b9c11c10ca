import type { Mutation } from "../mutation.js";

const LOOP = "src/worker/wake/wake-loop.ts";
const LOOP_TEST = ["test/unit/worker/wake/wake-loop.test.ts"];
const RUNNER = "src/worker/pipeline-runner.ts";

export const WAKE: readonly Mutation[] = [
  {
    breaks: "the last sweep forgets a wake-up that came during it",
    file: LOOP,
    find: "if (found || state.woken) return sweepAgain(state.holds);",
    replace: "if (found) return sweepAgain(state.holds);",
    tests: LOOP_TEST,
  },
  {
    breaks: "a worker keeps the gate while it sweeps again after its last sweep",
    file: LOOP,
    find: "if (found || state.woken) return sweepAgain(state.holds);",
    replace: "if (found || state.woken) return sweepAgain(false);",
    tests: LOOP_TEST,
  },
  {
    breaks: "a woken worker keeps the gate while it sweeps",
    file: LOOP,
    find: 'if (state.phase === "asleep") return sweepAgain(state.holds);',
    replace: 'if (state.phase === "asleep") return sweepAgain(false);',
    tests: LOOP_TEST,
  },
  {
    breaks: "re-embedding forgets a wake-up",
    file: LOOP,
    find: "  if (state.woken) return sweepAgain(state.holds);\n  if (!more)",
    replace: "  if (!more)",
    tests: LOOP_TEST,
  },
  {
    breaks: "a worker sleeps right after the gate was granted, without a last sweep",
    file: LOOP,
    find: '    state: { phase: "last-sweep", woken: state.woken, holds: answer === "granted" },\n    release: false,\n    action: { type: "sweep" },',
    replace:
      '    state: { phase: "asleep", holds: answer === "granted", refusals: 0 },\n    release: false,\n    action: { type: "sleep" },',
    tests: LOOP_TEST,
  },
  {
    breaks: "a gate that was granted too late is kept",
    file: LOOP,
    find: 'release: answer === "granted" };',
    replace: "release: false };",
    tests: LOOP_TEST,
    equivalent: "only a worker that asks for the gate gets an answer",
  },
  {
    breaks: "a worker without the gate sleeps as long as one that holds it",
    file: LOOP,
    find: "return state.refusals > 0 ? refusalDelayMs(state.refusals) : STANDBY_MS;",
    replace: "return state.refusals > 0 ? refusalDelayMs(state.refusals) : LONGEST_SLEEP_MS;",
    tests: LOOP_TEST,
  },
  {
    breaks: "a blocked worker asks again after 25 ms indefinitely",
    file: LOOP,
    find: "refusals > LONG_REFUSALS ? 100 :",
    replace: "refusals > LONG_REFUSALS ? 25 :",
    tests: LOOP_TEST,
  },
  {
    breaks: "the presence reconnects without a look at the rows",
    file: "src/worker/worker.ts",
    find: "      sweepAll();\n    },\n  });\n  renewPresence",
    replace: "    },\n  });\n  renewPresence",
    tests: ["test/server/worker/sessions.test.ts", "test/faults/network.test.ts"],
  },
  {
    breaks: "the listener reconnects without a look at the rows",
    file: "src/worker/worker.ts",
    find: "    onReconnect: sweepAll,",
    replace: "    onReconnect: () => undefined,",
    tests: ["test/server/worker/wake/listener.test.ts", "test/faults/network.test.ts"],
  },
  {
    breaks: "the gate is kept after a fault",
    file: RUNNER,
    find: "        await presence.releaseGate(pipeline.id).catch(() => undefined);\n        step = startWakeLoop();",
    replace: "        step = startWakeLoop();",
    tests: ["test/server/worker/sessions.test.ts"],
  },
  {
    breaks: "an error of the table's shape causes no look at the pipelines",
    file: RUNNER,
    find: "    if (isShapeError(error)) options.onShapeError(error);\n",
    replace: "",
    tests: ["test/server/worker/shape.test.ts"],
  },
  {
    breaks: "leases of a batch that was lost in a fault wait until they expire",
    file: RUNNER,
    find: "        await releaseUnknown(context.pool, options.workerId(), pipeline.id, [...options.leases]).catch(\n          () => undefined,\n        );\n",
    replace: "",
    tests: ["test/server/worker/claim/lost-commit.test.ts"],
  },
];
