/**
 * node test/bench/two-workers.mjs [--rounds 7] [--rows 256], after npm run build: one worker process with two
 * threads against two with one thread each, on the same rows of a server (TEST_DATABASE_URL), in turns; the
 * built-in model. What counts is the ratio of each pair. Exit code 1 where two lose more than 5 %.
 */
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { readDocumentation } from "#embedd/cli/demo-text.js";
import { openDatabase, withClient } from "./database.mjs";
import { median, timed } from "./statistics.mjs";

const { values: flags } = parseArgs({
  options: { rounds: { type: "string", default: "7" }, rows: { type: "string", default: "256" } },
});
const MOST_LOST = 0.05;
const program = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const database = await openDatabase();
if (!database.server)
  throw new Error("needs a server: TEST_DATABASE_URL=postgres://… node test/bench/two-workers.mjs");
const texts = (await readDocumentation(Number(flags.rows))).map((chunk) => chunk.content);

/** Rows per second of some workers on one backlog, their start not counted. @param {number} count @param {number} threads */
async function measure(count, threads) {
  const workers = Array.from({ length: count }, () =>
    spawn(process.execPath, [program, "run"], {
      env: {
        ...process.env,
        DATABASE_URL: database.url,
        EMBEDD_THREADS: String(threads),
        EMBEDD_REUSE: "off",
        EMBEDD_LOG_FORMAT: "json",
      },
      stdio: ["ignore", "ignore", "pipe"],
    }),
  );
  const ended = workers.map((worker) => new Promise((resolve) => worker.once("close", resolve)));
  try {
    await Promise.all(
      workers.map(
        (worker) =>
          new Promise((resolve, reject) => {
            worker.stderr.on("data", (data) => String(data).includes('"ready"') && resolve());
            worker.once("close", () => reject(new Error("a worker ended by itself")));
          }),
      ),
    );
    return await withClient(database.url, async (client) => {
      // The model's first call is slower, and every worker takes part in it.
      await embedAll(client, texts.slice(0, 64));
      const ms = await embedAll(client, texts);
      return (texts.length / ms) * 1_000;
    });
  } finally {
    for (const worker of workers) worker.kill("SIGTERM");
    await Promise.all(ended);
  }
}

let inserts = 0;

async function embedAll(client, contents) {
  // Never the same text twice: its vector would be taken over instead of computed.
  const fresh = contents.map((text) => `${inserts++} ${text}`);
  const ms = await timed(async () => {
    await client.query("insert into embedd.chunks (source, content) select 'bench', unnest($1::text[])", [
      fresh,
    ]);
    for (;;) {
      const { rowCount } = await client.query("select from embedd.chunks where embedding is null limit 1");
      if (rowCount === 0) return;
      await sleep(10);
    }
  });
  await client.query("truncate embedd.chunks");
  return ms;
}

const pairs = [];
try {
  for (let round = 0; round < Number(flags.rounds); round++) {
    const one = await measure(1, 2);
    const two = await measure(2, 1);
    pairs.push({ one, two, ratio: two / one });
    console.error(
      `round ${round + 1}: ${one.toFixed(1)} and ${two.toFixed(1)} rows/s, ${(two / one).toFixed(3)}`,
    );
  }
} finally {
  await database.drop();
}
const ratio = median(pairs.map((pair) => pair.ratio));
console.log(
  `two workers with one thread each against one with two: ${ratio.toFixed(3)} × (median of ${pairs.length} pairs, ` +
    `${median(pairs.map(({ two }) => two)).toFixed(1)} against ${median(pairs.map(({ one }) => one)).toFixed(1)} rows/s; target ≥ ${1 - MOST_LOST})`,
);
process.exit(ratio >= 1 - MOST_LOST ? 0 : 1);
