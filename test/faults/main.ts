/**
 * npm run test:faults [-- --faults 300] [--seed N] [--workers 3] [--minutes N] [--provider hash|local]
 * Injects random faults into real worker processes and a real server. The last line has the counts. If a guarantee
 * was broken, the exit code is 1 and the server is left running for inspection.
 */
import { parseArgs } from "node:util";
import { messageOf } from "#embedd/errors.js";
import { createProvider } from "#embedd/providers/create-provider.js";
import { runFaults } from "./run.js";
import type { Summary } from "./run.js";

const { values: flags } = parseArgs({
  options: {
    faults: { type: "string", default: "300" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    workers: { type: "string", default: "3" },
    minutes: { type: "string", default: "600" },
    provider: { type: "string", default: "hash" },
  },
});

function line({
  faults,
  seconds,
  checks,
  rows,
  writes,
  transactions,
  maxSettledMs,
  maxRssBytes,
}: Summary): string {
  return (
    `${faults} faults in ${seconds.toFixed(0)} s (${(faults / seconds).toFixed(1)} per second), ${checks} checks, ` +
    `${transactions} writer transactions, ${writes} vectors written, ${rows} rows; ` +
    `at most ${(maxSettledMs / 1_000).toFixed(1)} s to settle, ${(maxRssBytes / 2 ** 20).toFixed(0)} MB per worker`
  );
}

const local = flags.provider === "local" ? await createProvider({ provider: "local", threads: 1 }) : null;
console.log(`seed ${flags.seed}`);
try {
  const summary = await runFaults({
    faults: Number(flags.faults),
    seed: Number(flags.seed),
    workers: Number(flags.workers),
    minutes: Number(flags.minutes),
    reference: local === null ? undefined : (texts) => local.embed(texts),
    onProgress: (progress) => {
      console.log(line(progress));
    },
  });
  console.log(summary.byName);
  console.log(`ok, seed ${flags.seed}: ${line(summary)}; nothing lost, stale or written twice`);
} catch (error) {
  console.error(error);
  console.log(`failed, seed ${flags.seed}: ${messageOf(error)}`);
  process.exitCode = 1;
} finally {
  await local?.close();
}
