import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "#embedd/errors.js";
import { waitFor } from "../../helpers/wait.js";
import { check, checkConnections, Violation } from "../checker.js";
import type { FaultContext } from "../fault.js";
import { pickFault, undoFaults } from "../faults.js";
import { between, seededRandom } from "../random.js";
import type { Random } from "../random.js";
import { endWorkers } from "../run.js";
import { WORKER_ROLE } from "../schema.js";
import { openStage } from "../stage.js";
import type { Stage } from "../stage.js";
import { LEASE_MS, WORKER_UNDER_FAULTS, createSlot } from "../workers.js";
import type { WorkerSettings, WorkerSlot } from "../workers.js";
import { startWriters } from "../writers.js";
import type { Writers } from "../writers.js";
import { checkArticles, createArticles, MODELS, settleArticles, vectorOf } from "./articles.js";
import type { Model } from "./articles.js";
import { runUntilDone } from "./commands.js";
import { judge } from "./figures.js";
import type { Verdict } from "./figures.js";
import { createSampler } from "./sample.js";
import type { Sampler, Subject } from "./sample.js";

export interface SoakOptions {
  minutes: number;
  seed: number;
  /** Ends the soak early. Everything that it started is ended. */
  signal: AbortSignal;
  /** After a violation, leave the server running for inspection. */
  keep: boolean;
  /** Called once per minute. */
  onMinute?: (progress: Progress) => void;
}

export interface Progress {
  minutes: number;
  faults: number;
  /** Runs of a command that a fault ended are counted too. */
  commandRuns: number;
  switches: number;
  refreshes: number;
  checks: number;
  transactions: number;
  samples: number;
  /** So far. */
  verdicts: Verdict[];
}

/** From the worker's name to its model. Faults never kill the first worker of a model. */
const WORKERS = { a0: "soak-a", a1: "soak-a", b0: "soak-b", b1: "soak-b" } as const;
/** So long that a busy machine's worker releases its leases before. */
const SHUTDOWN_MS = 10_000;
const COMMAND_MS = 180_000;
const CONNECTIONS_PER_WORKER = 14;
const SAMPLE_MS = 15_000;
const ROUND_MS = 45_000;

const settingsOf = (model: Model): WorkerSettings => ({
  provider: "hash",
  model,
  dimensions: MODELS[model],
  latencyMs: 60,
  shutdownMs: SHUTDOWN_MS,
  worker: {
    ...WORKER_UNDER_FAULTS,
    // Small enough that the cache is full within minutes.
    reuseMaxMb: 1,
  },
});

interface Soak {
  options: SoakOptions;
  stage: Stage;
  random: Random;
  progress: Progress;
  writers: Writers[];
  violations: string[];
  model: Model;
}

type Turn = (soak: Soak) => Promise<void>;

/** What an administrator does, one per round. */
const TURNS: readonly Turn[] = [
  switchArticles,
  (soak) => refresh(soak, "notes"),
  switchArticles,
  (soak) => refresh(soak, "articles", "--empty-cache"),
];

/**
 * Runs workers of two models under moderate load for a while, with faults, model switches and refreshes in turns, and
 * samples what must not grow. Between rounds, it checks that no vector is lost, stale or written twice.
 * @throws Violation
 */
export async function runSoak(options: SoakOptions): Promise<Progress> {
  const random = seededRandom(options.seed);
  const violations: string[] = [];
  let closing = false;

  function onExit(slot: WorkerSlot, code: number | null, signal: NodeJS.Signals | null): void {
    if (closing || options.signal.aborted) return;
    if (signal === null && code !== 0 && slot.wasReady)
      violations.push(`${slot.name} exited unexpectedly with code ${code ?? "none"}: ${slot.log}`);
    setTimeout(
      () => {
        if (!closing && !slot.running) slot.start();
      },
      between(random, 0, 300),
    );
  }

  const stage = await openStage({ workers: 0, settings: settingsOf("soak-a"), onExit });
  const { cluster, pool, slots } = stage;
  const writers: Writers[] = [];
  let keepServer = false;
  try {
    await createArticles(pool);
    await pool.query(
      `alter role ${WORKER_ROLE} set statement_timeout = '1200ms'; alter role ${WORKER_ROLE} set lock_timeout = '400ms'`,
    );
    for (const [name, model] of Object.entries(WORKERS))
      slots.push(await createSlot(cluster, name, settingsOf(model), onExit));
    for (const slot of slots) slot.start();
    await Promise.all(slots.map((slot) => slot.waitUntilReady()));
    for (const table of ["notes", "articles"])
      writers.push(
        startWriters({
          url: cluster.url("postgres"),
          count: 1,
          seed: options.seed + writers.length,
          table,
          // About 4 transactions per second.
          pauseMs: 500,
          rows: 1_000,
          onError: (error) => violations.push(`a writer of ${table} failed: ${messageOf(error)}`),
        }),
      );
    const progress: Progress = {
      minutes: 0,
      faults: 0,
      commandRuns: 0,
      switches: 0,
      refreshes: 0,
      checks: 0,
      transactions: 0,
      samples: 0,
      verdicts: [],
    };
    const soak: Soak = { options, stage, random, progress, writers, violations, model: "soak-a" };
    const subjects: Subject[] = slots.map((slot) => ({ slot, lasting: lasting.has(slot.name) }));
    await rounds(soak, createSampler(pool, subjects));
    closing = true;
    await Promise.all(writers.map((writer) => writer.stop()));
    if (!options.signal.aborted) {
      // A worker cannot release its leases on a connection that a fault has silenced.
      await undoFaults({ ...stage, random, leaseMs: LEASE_MS }, { tellWorkers: true });
      await endWorkers(stage);
    }
    return progress;
  } catch (error) {
    keepServer = options.keep && error instanceof Violation;
    for (const slot of slots) console.error(`--- ${slot.name}\n${slot.log.slice(-4_000)}`);
    throw error;
  } finally {
    closing = true;
    await Promise.all(writers.map((writer) => writer.stop()));
    await stage.close({ keepServer });
  }
}

const lasting: ReadonlySet<string> = new Set(["a0", "b0"]);

async function rounds(soak: Soak, sampler: Sampler): Promise<void> {
  const { options, progress, writers } = soak;
  const durationMs = options.minutes * 60_000;
  const roundMs = Math.min(ROUND_MS, durationMs / TURNS.length);
  const started = performance.now();
  const elapsed = (): number => performance.now() - started;
  const sampling = new AbortController();
  const sampled = (async () => {
    let minute = 1;
    while (!sampling.signal.aborted) {
      await sampler.take(progress.switches);
      progress.samples++;
      progress.minutes = elapsed() / 60_000;
      progress.transactions = writers.reduce((sum, { committed }) => sum + committed, 0);
      progress.verdicts = judge(sampler.figures);
      if (progress.minutes >= minute) {
        minute = Math.floor(progress.minutes) + 1;
        options.onMinute?.(progress);
      }
      await pause(Math.min(SAMPLE_MS, durationMs / 20), sampling.signal);
    }
  })();
  try {
    // At least one switch and one refresh, however long a busy machine takes.
    for (let i = 0; (i < 2 || elapsed() < durationMs) && !options.signal.aborted; i++) {
      const failed = new AbortController();
      const faults = injectFaults(soak, roundMs, AbortSignal.any([options.signal, failed.signal]));
      try {
        await TURNS[i % TURNS.length]?.(soak);
      } catch (error) {
        failed.abort();
        throw error;
      } finally {
        await faults;
      }
      if (!options.signal.aborted) await verify(soak);
    }
  } finally {
    sampling.abort();
    await sampled;
  }
}

async function switchArticles(soak: Soak): Promise<void> {
  const next: Model = soak.model === "soak-a" ? "soak-b" : "soak-a";
  const dimensions = String(MODELS[next]);
  await command(soak, [
    "switch-model",
    "articles",
    "--model",
    next,
    "--dimensions",
    dimensions,
    "--drop-old",
  ]);
  soak.model = next;
  soak.progress.switches++;
}

async function refresh(soak: Soak, table: string, ...flags: string[]): Promise<void> {
  await command(soak, ["reembed", "--table", table, "--all", ...flags]);
  soak.progress.refreshes++;
}

async function command({ options, progress, stage }: Soak, args: readonly string[]): Promise<void> {
  const url = stage.cluster.url("postgres");
  progress.commandRuns += await runUntilDone(args, { url, timeoutMs: COMMAND_MS, signal: options.signal });
}

/** A fault every few seconds. */
async function injectFaults(
  { progress, random, stage }: Soak,
  ms: number,
  signal: AbortSignal,
): Promise<void> {
  const until = performance.now() + ms;
  const running = new Set<Promise<void>>();
  while (performance.now() < until && !signal.aborted) {
    await pause(between(random, 300, 4_000), signal);
    const fault = pickFault(random);
    if (fault.exclusive === true) await Promise.all(running);
    progress.faults++;
    const done: Promise<void> = fault
      .run(contextOf(stage, random))
      // A fault can fail because the server is down.
      .catch(() => undefined)
      .finally(() => running.delete(done));
    running.add(done);
    if (fault.exclusive === true) await done;
  }
  await Promise.all(running);
}

/** Faults never kill the first worker: a lasting one, of either model. */
function contextOf({ cluster, pool, slots }: Stage, random: Random): FaultContext {
  const [first, ...others] = slots.filter(({ name }) => lasting.has(name)).sort(() => random() - 0.5);
  const restarted = slots.filter(({ name }) => !lasting.has(name));
  if (first === undefined || others.length === 0) throw new Error("two lasting workers");
  return { cluster, pool, random, leaseMs: LEASE_MS, slots: [first, ...restarted] };
}

async function verify({ model, progress, random, stage, violations, writers }: Soak): Promise<void> {
  const { pool, slots } = stage;
  await Promise.all(writers.map((writer) => writer.pause()));
  const answers = () =>
    pool.query("select 1").then(
      () => true,
      () => false,
    );
  await waitFor(answers, { what: "the server to answer" });
  await undoFaults({ ...stage, random, leaseMs: LEASE_MS }, { tellWorkers: random() < 0.8 });
  await settleArticles(pool, model);
  await check(pool, {
    reference: (texts) => Promise.resolve(texts.map((text) => vectorOf("soak-a", text))),
    minCosine: 1 - 1e-6,
  });
  await checkArticles(pool);
  await checkConnections(pool, CONNECTIONS_PER_WORKER * slots.length);
  if (violations.length > 0) throw new Violation(violations.join("\n"));
  progress.checks++;
  for (const writer of writers) writer.resume();
}

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  sleep(ms, undefined, { signal }).catch(() => undefined);
