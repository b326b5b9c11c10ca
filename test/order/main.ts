/**
 * npm run test:order [-- --runs 100] [--seed N] [--steps 20] [--keep-going]
 * Runs random sequences of administrative commands and edits on the server of TEST_DATABASE_URL. The first that breaks
 * a guarantee is shortened and printed, and the exit code is 1. With --keep-going, prints all of them unshortened.
 */
import { parseArgs } from "node:util";
import fc from "fast-check";
import { messageOf } from "#embedd/errors.js";
import { dropServerDatabase } from "../helpers/server-databases.js";
import { runSequence } from "./run.js";
import { sequences } from "./shrink.js";
import { createTemplate } from "./stage.js";

const { values: flags } = parseArgs({
  options: {
    runs: { type: "string", default: "100" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    steps: { type: "string", default: "20" },
    "keep-going": { type: "boolean", default: false },
  },
});
const serverUrl = process.env["TEST_DATABASE_URL"];
if (serverUrl === undefined) throw new Error("set TEST_DATABASE_URL");
const template = await createTemplate(serverUrl);
const runs = Number(flags.runs);
const seed = Number(flags.seed);
const arbitrary = sequences(Number(flags.steps));
let done = 0;
let failed = 0;
const started = performance.now();
try {
  if (flags["keep-going"]) {
    for (const steps of fc.sample(arbitrary, { numRuns: runs, seed })) {
      done++;
      await runSequence({ serverUrl, template, steps }).catch((error: unknown) => {
        failed++;
        console.log(`--- sequence ${done} of seed ${seed}\n${messageOf(error)}`);
      });
    }
  } else {
    await fc.assert(
      fc.asyncProperty(arbitrary, async (steps) => {
        done++;
        await runSequence({ serverUrl, template, steps });
      }),
      { numRuns: runs, seed, interruptAfterTimeLimit: 3_600_000 },
    );
  }
} catch (error) {
  failed = 1;
  console.log(messageOf(error));
} finally {
  await dropServerDatabase(serverUrl, template);
}
const seconds = (performance.now() - started) / 1_000;
console.log(
  `${failed === 0 ? "ok" : "failed"}, seed ${seed}: ${done} sequences in ${seconds.toFixed(0)} s, ${failed} failed`,
);
process.exitCode = failed === 0 ? 0 : 1;
