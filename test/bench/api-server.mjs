/**
 * A server for OpenAI's `/embeddings` in its own process, so that its CPU time does not count as the client's.
 * After LATENCY_MS it answers every input with one fixed vector.
 * Usage: node api-server.mjs LATENCY_MS FAILURE_SHARE SEED. It prints its URL. GET returns the number of requests
 * since the last GET and the milliseconds from the first request to the last answer.
 */
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const [latencyMs, failureShare, seed] = process.argv.slice(2).map(Number);
let state = seed;
/** A number in [0, 1) from a seeded generator: mulberry32. */
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}

const vectors = new Map();
function base64(dimensions) {
  if (!vectors.has(dimensions)) {
    const vector = new Float32Array(dimensions).fill(1);
    vectors.set(dimensions, Buffer.from(vector.buffer).toString("base64"));
  }
  return vectors.get(dimensions);
}

let requests = 0;
let first = 0;
let last = 0;
const server = createServer(async (request, response) => {
  if (request.method === "GET") {
    response.end(JSON.stringify({ requests, ms: last - first }));
    requests = first = last = 0;
    return;
  }
  if (requests++ === 0) first = performance.now();
  const due = sleep(latencyMs);
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { input, dimensions = 1_536, model } = JSON.parse(Buffer.concat(chunks).toString());
  const embedding = base64(dimensions);
  const data = input.map((_, index) => ({ object: "embedding", index, embedding }));
  const body = { object: "list", data, model, usage: { prompt_tokens: 1, total_tokens: 1 } };
  const failed = random() < failureShare;
  await due;
  response.writeHead(failed ? 500 : 200, { "content-type": "application/json" });
  response.end(failed ? "{}" : JSON.stringify(body));
  last = performance.now();
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/v1`));
