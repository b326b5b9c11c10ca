/**
 * npm run test:soak [-- --minutes 60] [--seed N] [--keep]
 * Runs workers for an hour under faults, model switches and refreshes, and checks that nothing they hold grows. Prints a
 * line per minute with the figures that moved; the last line has each figure's median in the first and in the last quarter. The exit code is 1 if
 * a figure grew, or if a vector was lost, stale or written twice; with --keep, the server then stays for inspection.
 */
import { parseArgs } from "node:util";
import { messageOf } from "#embedd/errors.js";
import { formatVerdicts } from "./figures.js";
import { runSoak } from "./run.js";
import type { Progress } from "./run.js";

const { values: flags } = parseArgs({
  options: {
    minutes: { type: "string", default: "60" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    keep: { type: "boolean", default: false },
  },
});

function line(progress: Progress, verdicts = progress.verdicts): string {
  const { minutes, faults, switches, refreshes, commandRuns, checks, transactions, samples } = progress;
  return (
    `${minutes.toFixed(1)} min, ${faults} faults, ${switches} switches, ${refreshes} refreshes (${commandRuns} commands), ` +
    `${checks} checks, ${transactions} transactions, ${samples} samples: ${formatVerdicts(verdicts)}`
  );
}

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.once(signal, () => {
    stop.abort();
  });
console.log(`seed ${flags.seed}`);
try {
  const progress = await runSoak({
    minutes: Number(flags.minutes),
    seed: Number(flags.seed),
    keep: flags.keep,
    signal: stop.signal,
    onMinute: (now) => {
      const moving = now.verdicts.filter(({ first, last, peak }) => first !== peak || last !== peak);
      console.log(line(now, moving));
    },
  });
  const grown = progress.verdicts.filter((verdict) => verdict.grown).map(({ name }) => name);
  const result = stop.signal.aborted
    ? "stopped"
    : grown.length > 0
      ? `failed, ${grown.join(", ")} grew`
      : "ok";
  console.log(`${result}, seed ${flags.seed}: ${line(progress)}`);
  if (result !== "ok") process.exitCode = 1;
} catch (error) {
  console.error(error);
  console.log(`failed, seed ${flags.seed}: ${messageOf(error)}`);
  process.exitCode = 1;
}
