/** (f) An API with 200 ms latency: how close embedd comes to the rate that the latency allows. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { createProvider } from "#embedd/providers/create-provider.js";
import { createWorker } from "#embedd/worker/worker.js";
import { withClient } from "./database.mjs";
import { median } from "./statistics.mjs";

const LATENCY_MS = 200;
const BATCH = 64;
const IN_FLIGHT = 4;
const IDEAL = (BATCH * IN_FLIGHT * 1_000) / LATENCY_MS;
/** Requests per connection; a shorter run would mostly measure the start. */
const LENGTH = 40;

/**
 * Measures bare `fetch`, the provider alone and a whole worker as shares of the ideal rate; and the number of
 * requests with 20 % random failures relative to none.
 * @param {string} url @param {string[]} texts @param {number} rounds
 */
export async function benchApi(url, texts, rounds) {
  const share = { fetch: [], provider: [], worker: [] };
  const server = await startServer(0);
  try {
    for (let round = 0; round < rounds; round++) {
      share.fetch.push((await fetchRate(server, texts, LENGTH)) / IDEAL);
      share.provider.push((await providerRate(server, texts, LENGTH)) / IDEAL);
      share.worker.push((await workerRate(server, url, texts, LENGTH)) / IDEAL);
    }
  } finally {
    await server.stop();
  }
  const failing = await startServer(0.2);
  try {
    const batches = 200;
    await providerRate(failing, texts, batches / IN_FLIGHT);
    return {
      fetch: median(share.fetch),
      provider: median(share.provider),
      worker: median(share.worker),
      ideal: IDEAL,
      requests: failing.requests / batches,
    };
  } finally {
    await failing.stop();
  }
}

const open = (server) =>
  createProvider({ provider: "openai", apiKey: "none", baseUrl: server.url, concurrency: IN_FLIGHT });

const rowsOf = (texts, count) => Array.from({ length: count }, (_, i) => `${i} ${texts[i % texts.length]}`);

/** Rows per second with prepared requests and unparsed answers: the limit of machine and server. */
async function fetchRate(server, texts, rounds) {
  const body = JSON.stringify({
    model: "m",
    input: rowsOf(texts, BATCH),
    dimensions: 384,
    encoding_format: "base64",
  });
  const send = async () => (await fetch(`${server.url}/embeddings`, { method: "POST", body })).text();
  await send();
  await server.report();
  let left = rounds * IN_FLIGHT;
  const caller = async () => {
    while (left-- > 0) await send();
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, caller));
  const { requests, ms } = await server.report();
  return ((requests * BATCH) / ms) * 1_000;
}

/** Rows per second of `embed` calls with one request each, at the provider's concurrency. */
async function providerRate(server, texts, rounds) {
  const provider = await open(server);
  const rows = rowsOf(texts, BATCH * IN_FLIGHT * rounds);
  const batches = Array.from({ length: rows.length / BATCH }, (_, i) =>
    rows.slice(i * BATCH, (i + 1) * BATCH),
  );
  const total = batches.length;
  const caller = async () => {
    for (let batch = batches.shift(); batch !== undefined; batch = batches.shift()) {
      await provider.embed(batch, { dimensions: 384 });
    }
  };
  await provider.embed(["warm"], { dimensions: 384 });
  await server.report();
  await Promise.all(Array.from({ length: provider.concurrency }, caller));
  await provider.close();
  return ((total * BATCH) / (await server.report()).ms) * 1_000;
}

/** Rows per second of a worker, from its first request to its last answer. Checks that all rows are written. */
async function workerRate(server, url, texts, rounds) {
  const rows = rowsOf(texts, BATCH * IN_FLIGHT * rounds);
  const provider = await open(server);
  return withClient(url, async (client) => {
    await client.query("insert into embedd.chunks (source, content) select 'api', unnest($1::text[])", [
      rows,
    ]);
    await client.query("vacuum analyze embedd.chunks");
    await server.report();
    const worker = await createWorker({ databaseUrl: url, provider, maxBatchRows: BATCH, reuse: false });
    await worker.idle();
    await worker.stop();
    await provider.close();
    const { rows: left } = await client.query(
      "select count(*)::int as n from embedd.chunks where embedding is null",
    );
    if (left[0].n > 0) throw new Error(`${left[0].n} rows have no vector`);
    await client.query("truncate embedd.chunks");
    return (rows.length / (await server.report()).ms) * 1_000;
  });
}

async function startServer(failureShare) {
  const file = fileURLToPath(new URL("api-server.mjs", import.meta.url));
  const child = spawn(process.execPath, [file, LATENCY_MS, failureShare, 20_260_101].map(String), {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [url] = await once(createInterface(child.stdout), "line");
  const server = {
    url,
    requests: 0,
    /** Counts since the last report. */
    async report() {
      await sleep(5);
      const report = await (await fetch(url)).json();
      server.requests = report.requests;
      return report;
    },
    async stop() {
      child.kill();
      await once(child, "exit");
    },
  };
  return server;
}
