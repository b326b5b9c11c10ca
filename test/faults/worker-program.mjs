/**
 * A worker process for the fault tests: the real worker with a provider that makes vectors by hashing, so that
 * it starts fast. FAULTS_WORKER holds its settings as JSON. Over IPC the parent names a phase of `embed` to hold;
 * calls then wait at that phase and report it.
 * On request it reports what it holds.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { createLogger } from "#embedd/logger.js";
import { createWorker } from "#embedd/worker/worker.js";
import { hashVector } from "../helpers/hash-vector.mjs";

const settings = JSON.parse(process.env["FAULTS_WORKER"] ?? "{}");
const log = createLogger({ level: "info", format: "json" });
let holding = settings.hold ?? null;
const held = [];
let computed = 0;
let listenerWarnings = 0;

process.on("warning", ({ name }) => {
  if (name === "MaxListenersExceededWarning") listenerWarnings++;
});

/** What the process holds after a garbage collection. */
function holdings() {
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
  return {
    heapBytes: process.memoryUsage().heapUsed,
    resources: process.getActiveResourcesInfo().length,
    listenerWarnings,
  };
}

/** Models differ even if their dimensions are equal. */
const named = (text) => (settings.model === undefined ? text : `${settings.model}: ${text}`);

const send = (message) => {
  if (process.connected) process.send(message);
};

/** @param {"claimed" | "tokenizing" | "inferring" | "computed"} phase */
async function reach(phase, ms = 0) {
  if (holding === phase) {
    send({ held: phase });
    await new Promise((resolve) => held.push(resolve));
  }
  if (ms > 0) await sleep(ms);
}

const provider = {
  model: settings.model ?? "hash",
  dimensions: settings.dimensions,
  concurrency: 2,
  maxBatchRows: 2_048,
  usdPerMillionTokens: 0,
  supportsDimensions: (asked) => asked === settings.dimensions,
  countTokens: (texts) => Promise.resolve(texts.map((text) => text.length)),
  async embed(texts, { signal } = {}) {
    await reach("claimed");
    const ms = Math.random() * settings.latencyMs;
    await reach("tokenizing", ms / 4);
    await reach("inferring", ms);
    signal?.throwIfAborted();
    computed += texts.length;
    await reach("computed");
    return texts.map((text) => hashVector(named(text), settings.dimensions));
  },
  close: () => Promise.resolve(),
};

process.on("message", (message) => {
  if ("hold" in message) {
    holding = message.hold;
    if (holding === null) for (const release of held.splice(0)) release();
  }
  if ("ask" in message) {
    send({ answer: message.ask, computed, ...(message.holdings ? holdings() : {}) });
  }
});
// The parent process has exited.
process.on("disconnect", () => process.exit(1));

try {
  const worker = await createWorker({ ...settings.worker, provider, log });
  log.info({ worker: worker.id }, "ready");
  send({ ready: worker.id });
  process.once("SIGTERM", () => {
    void worker.stop({ deadlineMs: settings.shutdownMs }).then(() => process.exit(0));
  });
} catch (error) {
  log.error({ cause: String(error), code: error.code }, "could not start");
  process.exit(4);
}
