/**
 * Usage, after npm run build: node test/bench/two-workers.mjs [--rounds 7] [--rows 256]
 * Compares two workers with one thread each to one worker with two threads, alternating on the same rows of a
 * server (TEST_DATABASE_URL), with the built-in model. Reports the median ratio of the pairs. Exits with code 1 if
 * two workers are more than 5 % slower.
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
const MAX_LOSS = 0.05;
const program = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const database = await openDatabase();
if (!database.server) throw new Error("this benchmark needs a PostgreSQL server: set TEST_DATABASE_URL");
const texts = (await readDocumentation(Number(flags.rows))).map((chunk) => chunk.content);

/** Rows per second of `count` workers on one backlog, excluding their start. @param {number} count @param {number} threads */
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
            worker.once("close", () => reject(new Error("a worker exited unexpectedly")));
          }),
      ),
    );
    return await withClient(database.url, async (client) => {
      // Warms up every worker: the model's first call is slower.
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
  // Every text is new, so that no vector is reused.
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
      `round ${round + 1}: ${one.toFixed(1)} rows/s with one worker, ${two.toFixed(1)} with two, ratio ${(two / one).toFixed(3)}`,
    );
  }
} finally {
  await database.drop();
}
const ratio = median(pairs.map((pair) => pair.ratio));
console.log(
  `two workers with one thread each, relative to one with two threads: ${ratio.toFixed(3)} × (median of ${pairs.length} pairs, ` +
    `${median(pairs.map(({ two }) => two)).toFixed(1)} and ${median(pairs.map(({ one }) => one)).toFixed(1)} rows/s; target ≥ ${1 - MAX_LOSS})`,
);
process.exit(ratio >= 1 - MAX_LOSS ? 0 : 1);
