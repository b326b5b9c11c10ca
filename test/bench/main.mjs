/**
 * npm run bench [-- --quick] [-- --only inference,end-to-end,latency,trigger,memory,pipeline,reuse,switch-model,api]
 * Prints one table of ratios, all measured in this run on the same texts. Absolute numbers depend on the machine.
 */
import { parseArgs } from "node:util";
import { readDocumentation } from "#embedd/cli/demo-text.js";
import { openDatabase } from "./database.mjs";
import { benchEndToEnd, benchLatency, benchMemory, benchPipeline } from "./end-to-end.mjs";
import { benchApi } from "./api.mjs";
import { benchInference } from "./inference.mjs";
import { benchReuse } from "./reuse.mjs";
import { median, table } from "./statistics.mjs";
import { benchSwitchModel } from "./switch-model.mjs";
import { benchTrigger } from "./trigger.mjs";

const { values: flags } = parseArgs({ options: { quick: { type: "boolean" }, only: { type: "string" } } });
const only = flags.only?.split(",");
const wanted = (name) => only === undefined || only.includes(name);
const rounds = flags.quick ? 3 : 5;
const rows = [["benchmark", "measured", "target", ""]];

/** @param {string} what @param {string} measured @param {[string, boolean]} [target] */
function report(what, measured, target) {
  rows.push([what, measured, target?.[0] ?? "", target === undefined ? "" : target[1] ? "ok" : "missed"]);
  console.error(`${what}: ${measured}`);
}

const database = await openDatabase();
let failed = false;
try {
  const texts = (await readDocumentation(flags.quick ? 128 : 256)).map((chunk) => chunk.content);
  console.error(`${texts.length} texts, ${database.what}, Node ${process.version}`);
  if (wanted("inference")) await reportInference(texts);
  if (wanted("end-to-end")) {
    const { rate, ratio } = await benchEndToEnd(database.url, texts, rounds);
    const target = ["≥ 0.9", ratio >= 0.9];
    report(
      "(b) insert to last vector, relative to the model alone",
      `${ratio.toFixed(2)} × (${rate.toFixed(1)} rows/s)`,
      target,
    );
  }
  if (wanted("latency")) {
    const { p50, p99 } = await benchLatency(database.url, flags.quick ? 60 : 200);
    report("(c) commit to vector, idle worker, p50", `${p50.toFixed(0)} ms`, ["≤ 30 ms", p50 <= 30]);
    report("(c) commit to vector, idle worker, p99", `${p99.toFixed(0)} ms`, ["≤ 150 ms", p99 <= 150]);
  }
  if (wanted("trigger")) await reportTrigger();
  if (wanted("memory")) {
    const megabytes = await benchMemory(database.url, texts);
    report("(e) peak memory of the worker process", `${megabytes.toFixed(0)} MB`, [
      "≤ 500 MB",
      megabytes <= 500,
    ]);
  }
  if (wanted("pipeline")) await reportPipeline();
  if (wanted("api")) await reportApi(texts);
  if (wanted("reuse")) await reportReuse();
  if (wanted("switch-model")) await reportSwitchModel();
} catch (error) {
  failed = true;
  console.error(error);
} finally {
  await database.drop();
}
console.log(`\n${database.what}; medians of ${rounds} rounds\n\n${table(rows)}`);
process.exit(failed ? 1 : 0);

async function reportInference(texts) {
  const result = await benchInference(texts, rounds);
  const { rates, perCpu } = result;
  const base = "transformers.js, 64 per call";
  for (const [name, values] of Object.entries(rates)) {
    const ratio = median(values.map((rate, i) => rate / rates[base][i]));
    const cpu = median(perCpu[name].map((rate, i) => rate / perCpu[base][i]));
    const target = name === "embedd" ? ["≥ 2.2 ×", ratio >= 2.2] : undefined;
    report(
      `(a) ${name}`,
      `${ratio.toFixed(2)} × (${median(values).toFixed(1)} texts/s; ${cpu.toFixed(2)} × per CPU second)`,
      target,
    );
  }
  const { usefulGflops, ceilingGflops, delayMs, tokens } = result;
  report(
    "(a) useful GFLOP/s of embedd, relative to fp32 matrix products",
    `${usefulGflops.toFixed(0)} of ${ceilingGflops.toFixed(0)} (${(usefulGflops / ceilingGflops).toFixed(2)}), ${tokens.toFixed(0)} tokens per text`,
  );
  report("(a) event-loop delay p99, embedd", `${delayMs.embedd.toFixed(1)} ms`, [
    "≤ 25 ms",
    delayMs.embedd <= 25,
  ]);
  report("(a) event-loop delay p99, transformers.js", `${delayMs[base].toFixed(0)} ms`);
}

async function reportTrigger() {
  if (!database.server) {
    report("(d) trigger cost", "skipped: needs a server, set TEST_DATABASE_URL");
    return;
  }
  const { rates, ratio } = await benchTrigger(database.url, rounds, flags.quick ? 1 : 2);
  for (const [name, values] of Object.entries(rates)) {
    const isEmbedd = name.startsWith("embedd");
    const against = ratio(name, "no trigger");
    report(
      `(d) ${name}`,
      `${against.toFixed(2)} × (${median(values).toFixed(0)} inserts/s)`,
      isEmbedd ? ["≥ 0.9", against >= 0.9] : undefined,
    );
  }
  const gain = ratio("embedd's trigger, worker awake", "a plain NOTIFY trigger");
  report("(d) embedd's trigger, relative to a plain NOTIFY", `${gain.toFixed(2)} ×`, ["≥ 2 ×", gain >= 2]);
}

async function reportPipeline() {
  const backlogs = flags.quick ? [10_000, 100_000] : [10_000, 1_000_000];
  for (const [name, columns, key, floor] of [
    ["bigint keys", "id bigint primary key", { names: "id, content", values: "i" }, 5_000],
    [
      "three-column keys",
      "a int, b date, c text, primary key (a, b, c)",
      { names: "a, b, c, content", values: "i % 50, date '2024-01-01' + i % 365, 'c' || i" },
      3_500,
    ],
  ]) {
    const [small, large] = await benchPipeline(database.url, columns, key, backlogs);
    report(`pipeline without a model, ${name}`, `${large.toFixed(0)} rows/s`, [`≥ ${floor}`, large >= floor]);
    report(
      `  cost per row, ${backlogs[1]} rows relative to ${backlogs[0]}`,
      `${(small / large).toFixed(2)} ×`,
      ["≤ 1.3 ×", small / large <= 1.3],
    );
  }
}

async function reportReuse() {
  const { rates, ratio, computedOfHits } = await benchReuse(
    database.url,
    flags.quick ? 20_000 : 100_000,
    rounds,
  );
  const { off, misses, hits } = rates;
  report(
    "reuse, every text new, relative to reuse off",
    `${ratio.toFixed(2)} × (${misses.toFixed(0)} of ${off.toFixed(0)} rows/s)`,
  );
  report("reuse, every text new", `${misses.toFixed(0)} rows/s`, ["≥ 5000", misses >= 5_000]);
  report("reuse, reloaded table", `${hits.toFixed(0)} rows/s, ${computedOfHits} texts embedded`, [
    "0 embedded",
    computedOfHits === 0,
  ]);
}

async function reportSwitchModel() {
  if (!database.server) {
    report("switch-model", "skipped: needs a server, set TEST_DATABASE_URL");
    return;
  }
  const rows = flags.quick ? 20_000 : 100_000;
  const result = await benchSwitchModel(database.url, rows);
  const { lockedMs, seconds, searches, failures, mixed, slowestMs, writes } = result;
  report(`switch-model of ${rows} rows: the swap's lock`, `${lockedMs.toFixed(0)} ms`, [
    "≤ 100 ms",
    lockedMs <= 100,
  ]);
  report("  failed searches", `${failures} of ${searches}`, ["0", failures === 0]);
  report("  results from another model than the query", String(mixed), ["0", mixed === 0]);
  report("  slowest search", `${slowestMs.toFixed(0)} ms`);
  report("  whole switch", `${seconds.toFixed(0)} s, with ${writes} concurrent edits and inserts`);
}

async function reportApi(texts) {
  const { fetch, provider, worker, ideal, requests } = await benchApi(database.url, texts, rounds);
  const rate = (share) => `${share.toFixed(3)} × (${(share * ideal).toFixed(0)} of ${ideal} rows/s)`;
  report("(f) API with 200 ms latency, bare fetch", rate(fetch));
  report("(f) API with 200 ms latency, provider alone", rate(provider), ["≥ 0.95", provider >= 0.95]);
  report("(f) API with 200 ms latency, whole worker", rate(worker), ["≥ 0.95", worker >= 0.95]);
  report("(f) requests with 20 % random failures", `${requests.toFixed(2)} ×`, ["≤ 1.35", requests <= 1.35]);
}
