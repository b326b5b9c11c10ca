import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "#embedd/errors.js";
import { hashVector } from "../helpers/hash-vector.mjs";
import { waitFor } from "../helpers/wait.js";
import { check, checkConnections, Violation } from "./checker.js";
import type { Reference } from "./checker.js";
import { pickFault, undoFaults } from "./faults.js";
import type { FaultContext } from "./fault.js";
import { between, seededRandom } from "./random.js";
import { WORKER_ROLE } from "./schema.js";
import { openStage } from "./stage.js";
import type { Stage } from "./stage.js";
import { LEASE_MS, WORKER_UNDER_FAULTS } from "./workers.js";
import type { WorkerSettings, WorkerSlot } from "./workers.js";
import { startWriters } from "./writers.js";
import type { Writers } from "./writers.js";

export interface RunOptions {
  faults: number;
  seed: number;
  workers: number;
  /** Time limit of the run. */
  minutes: number;
  /** The real model, which the workers then use too. @default vectors made by hashing */
  reference?: Reference | undefined;
  onProgress?: (progress: Summary) => void;
}

export interface Summary {
  faults: number;
  byName: Record<string, number>;
  checks: number;
  rows: number;
  /** Vectors written. */
  writes: number;
  /** Committed by the writers. */
  transactions: number;
  /** The longest time to settle after the last fault: all rows embedded, no lease or failure left. */
  maxSettledMs: number;
  maxRssBytes: number;
  seconds: number;
}

const FAULTS_PER_ROUND = 100;
/** Concurrent faults. */
const MAX_CONCURRENT_FAULTS = 5;
/** Per worker: 8 in its pool, presence, listener, and spare for connections being replaced. */
const CONNECTIONS_PER_WORKER = 14;
const MAX_RSS_BYTES = 400 * 1024 * 1024;
/** So long that a busy machine's worker releases its leases before. */
const SHUTDOWN_MS = 10_000;

interface Run extends FaultContext {
  options: RunOptions;
  summary: Summary;
  writers: Writers;
  violations: string[];
}

function workerSettings(real: boolean): WorkerSettings {
  return {
    provider: real ? "local" : "hash",
    dimensions: real ? 384 : 16,
    latencyMs: 60,
    shutdownMs: SHUTDOWN_MS,
    worker: {
      ...WORKER_UNDER_FAULTS,
    },
  };
}

/**
 * Injects random faults into workers under load, with a check after every hundred.
 * @throws Violation, and then leaves the server running for inspection
 */
export async function runFaults(options: RunOptions): Promise<Summary> {
  const random = seededRandom(options.seed);
  const settings = workerSettings(options.reference !== undefined);
  const violations: string[] = [];
  let closing = false;

  function onExit(slot: WorkerSlot, code: number | null, signal: NodeJS.Signals | null): void {
    if (closing) return;
    // A worker that a fault killed, or that found no database at its start, is no violation.
    if (signal === null && code !== 0 && slot.wasReady)
      violations.push(`${slot.name} exited unexpectedly with code ${code ?? "none"}: ${slot.log}`);
    setTimeout(
      () => {
        if (!closing && !slot.running) slot.start();
      },
      between(random, 0, 300),
    );
  }

  const stage = await openStage({ workers: options.workers, settings, onExit });
  const { cluster, pool, slots } = stage;
  let writers: Writers | undefined;
  let keepServer = false;
  try {
    // Timeouts that an administrator could set, short enough for the faults' locks to exceed them.
    await pool.query(
      `alter role ${WORKER_ROLE} set statement_timeout = '1200ms'; alter role ${WORKER_ROLE} set lock_timeout = '400ms'`,
    );
    slots.forEach((slot) => {
      slot.start();
    });
    await Promise.all(slots.map((slot) => slot.waitUntilReady()));
    writers = startWriters({
      url: cluster.url("postgres"),
      count: 3,
      seed: options.seed,
      pauseMs: 40,
      rows: 1_000,
      onError: (error) => violations.push(`a writer failed: ${messageOf(error)}`),
    });
    const summary = emptySummary();
    const run: Run = { ...stage, random, leaseMs: LEASE_MS, options, summary, writers, violations };
    const started = performance.now();
    while (summary.faults < options.faults && performance.now() - started < options.minutes * 60_000) {
      await round(run, Math.min(FAULTS_PER_ROUND, options.faults - summary.faults));
      await verify(run);
      summary.seconds = (performance.now() - started) / 1_000;
      options.onProgress?.(summary);
    }
    closing = true;
    await writers.stop();
    // A worker cannot release its leases on a connection that a fault has silenced.
    await undoFaults(run, { tellWorkers: true });
    await endWorkers(stage);
    return summary;
  } catch (error) {
    keepServer = error instanceof Violation;
    for (const slot of slots) console.error(`--- ${slot.name}\n${slot.log.slice(-4_000)}`);
    throw error;
  } finally {
    closing = true;
    await writers?.stop();
    await stage.close({ keepServer });
  }
}

async function round(run: Run, count: number): Promise<void> {
  const { random, summary } = run;
  const running = new Set<Promise<void>>();
  for (let i = 0; i < count; i++) {
    const fault = pickFault(random);
    if (fault.exclusive === true) await Promise.all(running);
    while (running.size >= MAX_CONCURRENT_FAULTS) await Promise.race(running);
    summary.faults++;
    summary.byName[fault.name] = (summary.byName[fault.name] ?? 0) + 1;
    const done: Promise<void> = fault
      .run(run)
      // A fault can fail because the server is down.
      .catch(() => undefined)
      .finally(() => running.delete(done));
    running.add(done);
    if (fault.exclusive === true) await done;
    await sleep(between(random, 0, 150));
  }
  await Promise.all(running);
}

async function verify(run: Run): Promise<void> {
  const { options, pool, random, slots, summary, writers } = run;
  await writers.pause();
  const answers = () =>
    pool.query("select 1").then(
      () => true,
      () => false,
    );
  await waitFor(answers, { what: "the server to answer" });
  await undoFaults(run, { tellWorkers: random() < 0.8 });
  const hashes: Reference = (texts) => Promise.resolve(texts.map((text) => hashVector(text, 16)));
  const { reference = hashes } = options;
  const minCosine = reference === hashes ? 1 - 1e-6 : 0.9999;
  const checked = await check(pool, { reference, minCosine });
  await checkConnections(pool, CONNECTIONS_PER_WORKER * slots.length);
  if (run.violations.length > 0) throw new Violation(run.violations.join("\n"));
  summary.checks++;
  summary.rows = checked.rows;
  summary.writes += checked.writes;
  summary.transactions = writers.committed;
  summary.maxSettledMs = Math.max(summary.maxSettledMs, checked.settledMs);
  for (const slot of slots) {
    summary.maxRssBytes = Math.max(summary.maxRssBytes, await slot.residentBytes());
  }
  if (options.reference === undefined && summary.maxRssBytes > MAX_RSS_BYTES)
    throw new Violation(`a worker uses ${summary.maxRssBytes} bytes of resident memory`);
  writers.resume();
}

export async function endWorkers({ slots, pool }: Stage): Promise<void> {
  await Promise.all(
    slots.map(async (slot) => {
      if (!slot.running) return;
      await slot.waitUntilReady();
      slot.signal("SIGTERM");
      const late = sleep(SHUTDOWN_MS + 60_000, "late", { ref: false });
      if ((await Promise.race([slot.exited(), late])) === "late")
        throw new Violation(`${slot.name} did not exit on SIGTERM`);
    }),
  );
  await checkConnections(pool, 0);
  const { rowCount } = await pool.query("select from embedd.leases");
  if (rowCount !== 0) throw new Violation(`stopped workers left ${rowCount ?? 0} leases`);
}

function emptySummary(): Summary {
  return {
    faults: 0,
    byName: {},
    checks: 0,
    rows: 0,
    writes: 0,
    transactions: 0,
    maxSettledMs: 0,
    maxRssBytes: 0,
    seconds: 0,
  };
}
