/** Switches a table to another model with other dimensions while applications search and write. */
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { switchModel } from "#embedd/admin/switch-model/switch-model.js";
import { watch } from "#embedd/admin/watch.js";
import { createWorker } from "#embedd/worker/worker.js";
import { withClient } from "./database.mjs";
import { quantile } from "./statistics.mjs";

const FROM = { model: "bench old", dimensions: 64 };
const TO = { model: "bench new", dimensions: 32 };

/** A deterministic unit vector that differs by model and text. */
function vectorOf(model, text, dimensions) {
  let state = 2166136261;
  for (const character of `${model} ${text}`)
    state = Math.imul(state ^ character.charCodeAt(0), 16777619) >>> 0;
  const vector = new Float32Array(dimensions);
  let squares = 0;
  for (let i = 0; i < dimensions; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    vector[i] = state / 2 ** 31 - 1;
    squares += vector[i] ** 2;
  }
  return vector.map((component) => component / Math.sqrt(squares));
}

const provider = ({ model, dimensions }) => ({
  model,
  dimensions,
  concurrency: 2,
  maxBatchRows: 2_048,
  usdPerMillionTokens: null,
  supportsDimensions: (asked) => asked === dimensions,
  countTokens: (texts) => Promise.resolve(texts.map(() => 1)),
  embed: (texts) => Promise.resolve(texts.map((text) => vectorOf(model, text, dimensions))),
  close: () => Promise.resolve(),
});

export async function benchSwitchModel(url, rows) {
  return withClient(url, async (client) => {
    await client.query(`create table bench_switch (id int primary key, body text, embedding vector(${FROM.dimensions}), embedding_model text);
      insert into bench_switch select i, 'text ' || i from generate_series(1, ${rows}) i`);
    const options = { relation: "bench_switch", content: ["body"], embedding: "embedding" };
    await watch(client, options);
    const old = await createWorker({ databaseUrl: url, provider: provider(FROM) });
    await old.idle();
    await client.query(
      "create index bench_switch_hnsw on bench_switch using hnsw (embedding vector_cosine_ops)",
    );
    const stopping = new AbortController();
    const searchers = [1, 2].map(() => search(url, rows, stopping.signal));
    const writer = write(url, rows, stopping.signal);
    const started = performance.now();
    let next;
    const switched = await switchModel(client, { ...options, ...TO }, (event) => {
      if (event.step === "begin") next = createWorker({ databaseUrl: url, provider: provider(TO) });
    });
    const seconds = (performance.now() - started) / 1000;
    await sleep(2_000);
    stopping.abort();
    const found = (await Promise.all(searchers)).reduce((a, b) => ({
      searches: a.searches + b.searches,
      failures: a.failures + b.failures,
      mixed: a.mixed + b.mixed,
      ms: [...a.ms, ...b.ms],
    }));
    const writes = await writer;
    await Promise.all([old.stop(), next.then((worker) => worker.stop())]);
    return { lockedMs: switched.lockedMs, seconds, ...found, slowestMs: quantile(found.ms, 1), writes };
  });
}

async function search(url, rows, signal) {
  const client = new pg.Client(url);
  await client.connect();
  const result = { searches: 0, failures: 0, mixed: 0, ms: [] };
  while (!signal.aborted) {
    const started = performance.now();
    try {
      await client.query("begin");
      const current = await client.query("select model, dimensions from embedd.model_of('bench_switch')");
      const { model, dimensions } = current.rows[0];
      const query = `[${vectorOf(model, `text ${1 + Math.floor(Math.random() * rows)}`, dimensions).join(",")}]`;
      const found = await client.query(
        "select body, embedding::text as vector from bench_switch where embedding_model = $2 order by embedding <=> $1 limit 5",
        [query, model],
      );
      await client.query("commit");
      result.searches++;
      if (found.rows.length === 0) result.failures++;
      for (const { body, vector } of found.rows) {
        const right = vectorOf(model, body, dimensions);
        const stored = JSON.parse(vector);
        if (stored.length !== dimensions || stored.some((x, i) => Math.abs(x - right[i]) > 1e-5))
          result.mixed++;
      }
    } catch (error) {
      result.failures++;
      console.error(error);
      await client.query("rollback");
    }
    result.ms.push(performance.now() - started);
    await sleep(5);
  }
  await client.end();
  return result;
}

async function write(url, rows, signal) {
  const client = new pg.Client(url);
  await client.connect();
  let writes = 0;
  while (!signal.aborted) {
    const id = 1 + Math.floor(Math.random() * rows);
    await client.query("update bench_switch set body = 'edited ' || $2::text where id = $1", [id, ++writes]);
    await client.query("insert into bench_switch (id, body) values ($1, $2)", [
      rows + writes,
      `new ${writes}`,
    ]);
    await sleep(10);
  }
  await client.end();
  return writes;
}
