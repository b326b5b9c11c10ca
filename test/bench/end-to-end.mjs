import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { createProvider } from "#embedd/providers/create-provider.js";
import { createWorker } from "#embedd/worker/worker.js";
import { fixedProvider, withClient } from "./database.mjs";
import { median, quantile, timed } from "./statistics.mjs";

const insert = (client, texts) =>
  client.query("insert into embedd.chunks (source, content) select 'bench', unnest($1::text[])", [texts]);

/** (b) From the insert to the last vector, against the model alone on the same texts, alternating. */
export async function benchEndToEnd(url, texts, rounds) {
  const provider = await createProvider({ provider: "local" });
  const worker = await createWorker({ databaseUrl: url, provider, reuse: false });
  const ratios = [];
  const rates = [];
  await withClient(url, async (client) => {
    await provider.embed(texts);
    for (let round = 0; round < rounds; round++) {
      const alone = await timed(() => provider.embed(texts));
      await worker.idle();
      const through = await timed(async () => {
        await insert(client, texts);
        await untilEmbedded(client);
      });
      rates.push((texts.length / through) * 1000);
      ratios.push(alone / through);
      await client.query("truncate embedd.chunks");
    }
  });
  await worker.stop();
  await provider.close();
  return { rate: median(rates), ratio: median(ratios) };
}

async function untilEmbedded(client) {
  for (;;) {
    const { rowCount } = await client.query("select from embedd.chunks where embedding is null limit 1");
    if (rowCount === 0) return;
    await sleep(10);
  }
}

/** (c) From an insert's commit to its vector, with an idle worker. The benchmark's own trigger reports the vector. */
export async function benchLatency(url, count) {
  const provider = await createProvider({ provider: "local" });
  const worker = await createWorker({ databaseUrl: url, provider, reuse: false });
  const listener = new pg.Client(url);
  await listener.connect();
  let onNotification = () => undefined;
  listener.on("notification", () => onNotification());
  await listener.query(`listen bench_embedded;
    create function bench_embedded() returns trigger language plpgsql as $$
      begin perform pg_notify('bench_embedded', new.id::text); return null; end $$;
    create trigger bench_embedded after update of embedding on embedd.chunks for each row execute function bench_embedded()`);
  const times = [];
  await withClient(url, async (client) => {
    await worker.idle();
    for (let i = 0; i < count; i++) {
      await sleep(10 + Math.random() * 50);
      const arrived = new Promise((resolve) => (onNotification = resolve));
      await insert(client, [`A short question, number ${i}?`]);
      times.push(await timed(() => arrived));
    }
    await client.query("drop trigger bench_embedded on embedd.chunks; truncate embedd.chunks");
  });
  await listener.end();
  await worker.stop();
  await provider.close();
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
}

/** (e) Peak resident memory, in MB, of a worker process that embeds long and short texts. */
export async function benchMemory(url, texts) {
  const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
  const child = spawn(process.execPath, [main, "run"], {
    env: {
      ...process.env,
      DATABASE_URL: url,
      EMBEDD_LOG_LEVEL: "warn",
      EMBEDD_BATCH_MS: "60000",
      EMBEDD_REUSE: "off",
    },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const exited = new Promise((resolve) => child.once("close", resolve));
  try {
    await withClient(url, async (client) => {
      await insert(client, [...texts, ...texts.map((text) => text.slice(0, 40)), "long ".repeat(2_000_000)]);
      await untilEmbedded(client);
      await client.query("truncate embedd.chunks");
    });
    const status = await readFile(`/proc/${child.pid}/status`, "utf8");
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? NaN) / 1024;
  } finally {
    child.kill("SIGTERM");
    await exited;
  }
}

/** Claim and completion without a model, in rows per second, for each backlog size. */
export async function benchPipeline(url, columns, key, backlogs) {
  const rates = [];
  for (const rows of backlogs) {
    await withClient(url, async (client) => {
      await client.query(`create table bench_rows (${columns}, content text, embedding vector(384), embedding_model text);
        insert into bench_rows (${key.names}) select ${key.values}, 'text ' || i from generate_series(1, ${rows}) i`);
      await client.query("vacuum analyze bench_rows");
      await client.query("select embedd.watch('bench_rows', '{content}')");
      const ms = await timed(async () => {
        const worker = await createWorker({ databaseUrl: url, provider: fixedProvider() });
        await worker.idle();
        await worker.stop();
      });
      rates.push((rows / ms) * 1000);
      await client.query("select embedd.unwatch('bench_rows')");
      await client.query("drop table bench_rows");
    });
  }
  return rates;
}
