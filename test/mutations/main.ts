/**
 * npm run test:mutations [-- --sample 10] [--seed N] [--only words]
 * Breaks one place of the code after the other, in a copy, and runs the tests that must notice. Mutations whose tests
 * need a server are left out unless TEST_DATABASE_URL is set. The exit code is 1 if a mutation survives.
 */
import { parseArgs } from "node:util";
import fc from "fast-check";
import { needsNothing, needsServer } from "./mutation.js";
import { MUTATIONS } from "./table.js";
import { createWorkbench } from "./workbench.js";

const { values: flags } = parseArgs({
  options: {
    sample: { type: "string" },
    seed: { type: "string", default: String(Math.floor(Date.now() / 86_400_000)) },
    only: { type: "string" },
  },
});
const serverUrl = process.env["TEST_DATABASE_URL"];
const candidates = MUTATIONS.filter(
  (mutation) =>
    mutation.equivalent === undefined &&
    (serverUrl !== undefined || !needsServer(mutation)) &&
    (flags.only === undefined || mutation.breaks.includes(flags.only) || mutation.file.includes(flags.only)),
);
const chosen =
  flags.sample === undefined
    ? candidates
    : (
        fc.sample(
          fc.shuffledSubarray(candidates, { minLength: Math.min(Number(flags.sample), candidates.length) }),
          {
            numRuns: 1,
            seed: Number(flags.seed),
          },
        )[0] ?? []
      ).slice(0, Number(flags.sample));
if (chosen.length === 0) throw new Error("no mutation is chosen");
const workbench = await createWorkbench(process.cwd(), !chosen.every(needsNothing));
const survivors: string[] = [];
const times: number[] = [];
try {
  for (const [i, mutation] of chosen.entries()) {
    const started = performance.now();
    const outcome = await workbench.tryOut(mutation);
    const seconds = (performance.now() - started) / 1_000;
    times.push(seconds);
    const verdict = outcome.killed ? `killed by "${outcome.by}"` : `NOT KILLED (${outcome.why})`;
    console.log(
      `${i + 1}/${chosen.length} ${mutation.file}: ${mutation.breaks}: ${verdict}, ${seconds.toFixed(0)} s`,
    );
    if (!outcome.killed) survivors.push(`${mutation.file}: ${mutation.breaks} (${outcome.why})`);
  }
} finally {
  await workbench.remove();
}
for (const survivor of survivors) console.log(`not killed: ${survivor}`);
const median = times.sort((a, b) => a - b)[times.length >> 1] ?? 0;
console.log(
  `${chosen.length - survivors.length} of ${chosen.length} mutations killed, ` +
    `${median.toFixed(1)} s each (median), seed ${flags.seed}`,
);
process.exitCode = survivors.length > 0 ? 1 : 0;
