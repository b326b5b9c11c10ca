import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { WorkerOptions } from "#embedd/worker/worker-options.js";
import { waitFor } from "../helpers/wait.js";
import type { Cluster } from "./cluster.js";
import { createProxy } from "./proxy.js";
import type { Proxy } from "./proxy.js";
import { WORKER_ROLE } from "./schema.js";

/** A point at which a call of the hashing provider can be held. */
export type Phase = "claimed" | "tokenizing" | "inferring" | "computed";

/** Short, so that a frozen worker's rows are soon free. */
export const LEASE_MS = 1_000;

/** The options of a worker under random faults. */
export const WORKER_UNDER_FAULTS = {
  leaseMs: LEASE_MS,
  // So long that no row is found only by polling.
  pollIntervalMs: 3_600_000,
  maxBatchRows: 64,
  maxAttempts: 3,
  retryDelayMs: 200,
};

export interface WorkerSettings {
  /** `hash` runs worker-program.mjs; `local` runs `embedd run` with the built-in model. */
  provider: "hash" | "local";
  /** Of the `hash` provider. @default hash, whose vectors are those of `hashVector` */
  model?: string;
  dimensions: number;
  /** The longest time to embed a batch; the actual time is random. */
  latencyMs: number;
  shutdownMs: number;
  hold?: Phase;
  worker: Partial<Omit<WorkerOptions, "provider" | "log" | "onBatch">>;
}

/** What a worker process holds after a garbage collection. */
export interface Holdings {
  heapBytes: number;
  /** Sockets, timers and pipes that keep it alive. */
  resources: number;
  /** How often Node.js warned of too many listeners on one emitter. */
  listenerWarnings: number;
}

/** One worker process, which can be restarted, behind its own proxy. */
export interface WorkerSlot {
  readonly name: string;
  readonly proxy: Proxy;
  readonly pid: number | undefined;
  readonly running: boolean;
  readonly ready: boolean;
  /** Whether the current or last process was ready at any time. */
  readonly wasReady: boolean;
  /** The end of its log. */
  readonly log: string;
  start(): void;
  waitUntilReady(): Promise<void>;
  signal(name: NodeJS.Signals): void;
  /** Kills it, even if stopped by SIGSTOP, and waits for its exit. */
  kill(): Promise<void>;
  exited(): Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Makes calls wait at this phase; resolves when the first one does. */
  hold(phase: Phase): Promise<void>;
  release(): void;
  /** The number of texts that the process has embedded since its start. */
  computed(): Promise<number>;
  /** What the process of the `hash` provider holds; null: it did not answer, for example because it is frozen. */
  holdings(): Promise<Holdings | null>;
  /** 0 if it is not running. */
  residentBytes(): Promise<number>;
  /** Ends the process and its proxy. */
  close(): Promise<void>;
}

type Message = { ready: number } | { held: Phase } | Answer;
type Answer = { answer: number; computed: number } & Partial<Holdings>;

const hashWorker = fileURLToPath(new URL("../../test/faults/worker-program.mjs", import.meta.url));
const embeddCli = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const LOG_CHARS = 20_000;
const ANSWER_MS = 3_000;

/** @param onExit called whenever the process exits */
export async function createSlot(
  cluster: Cluster,
  name: string,
  settings: WorkerSettings,
  onExit: (slot: WorkerSlot, code: number | null, signal: NodeJS.Signals | null) => void = () => undefined,
): Promise<WorkerSlot> {
  const proxy = await createProxy(cluster.port);
  const databaseUrl = cluster.url(WORKER_ROLE, proxy.port);
  let child: ChildProcess | null = null;
  let ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }> | null = null;
  let ready = false;
  let wasReady = false;
  let log = "";
  let asked = 0;
  const answers = new Map<number, (answer: Answer) => void>();
  let onHeld: () => void = () => undefined;

  function onMessage(message: Message): void {
    if ("ready" in message) ready = wasReady = true;
    else if ("held" in message) onHeld();
    else answers.get(message.answer)?.(message);
  }

  function start(): void {
    if (child !== null) throw new Error(`${name} is already running`);
    ready = wasReady = false;
    log = "";
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([key]) => !/^(DATABASE_URL|EMBEDD_|VITEST|NODE_OPTIONS)/.test(key)),
    );
    const next = spawn(process.execPath, settings.provider === "hash" ? [hashWorker] : [embeddCli, "run"], {
      env:
        settings.provider === "hash"
          ? {
              ...env,
              FAULTS_WORKER: JSON.stringify({ ...settings, worker: { ...settings.worker, databaseUrl } }),
            }
          : { ...env, DATABASE_URL: databaseUrl, ...commandSettings(settings) },
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    child = next;
    next.stderr?.setEncoding("utf8").on("data", (text: string) => {
      log = (log + text).slice(-LOG_CHARS);
      if (!ready && text.includes('"ready"')) ready = wasReady = true;
    });
    next.on("message", onMessage);
    next.on("error", () => undefined);
    ended = new Promise((resolve) => {
      next.once("close", (code, signal) => {
        child = null;
        ready = false;
        resolve({ code, signal });
        onExit(slot, code, signal);
      });
    });
  }

  const slot: WorkerSlot = {
    name,
    proxy,
    get pid() {
      return child?.pid;
    },
    get running() {
      return child !== null;
    },
    get ready() {
      return ready;
    },
    get wasReady() {
      return wasReady;
    },
    get log() {
      return log;
    },
    start,
    async waitUntilReady() {
      await waitFor(
        () => {
          if (child === null) throw new Error(`${name} exited before it was ready: ${log}`);
          return ready;
        },
        { what: `${name} to be ready`, intervalMs: 5 },
      );
    },
    signal(signal) {
      child?.kill(signal);
    },
    async kill() {
      child?.kill("SIGKILL");
      await ended;
    },
    async exited() {
      if (ended === null) throw new Error(`${name} was never started`);
      return ended;
    },
    hold(phase) {
      const held = new Promise<void>((resolve) => (onHeld = resolve));
      child?.send({ hold: phase });
      return held;
    },
    release() {
      child?.send({ hold: null });
    },
    computed() {
      const id = ++asked;
      return new Promise((resolve) => {
        answers.set(id, ({ computed }) => {
          answers.delete(id);
          resolve(computed);
        });
        child?.send({ ask: id });
      });
    },
    async holdings() {
      if (child === null || !ready) return null;
      const id = ++asked;
      const answer = new Promise<Holdings>((resolve) => {
        answers.set(id, ({ heapBytes = NaN, resources = NaN, listenerWarnings = NaN }) => {
          resolve({ heapBytes, resources, listenerWarnings });
        });
      });
      child.send({ ask: id, holdings: true });
      const late = sleep(ANSWER_MS, null, { ref: false });
      return Promise.race([answer, late]).finally(() => answers.delete(id));
    },
    async residentBytes() {
      const status = await readFile(`/proc/${child?.pid ?? 0}/status`, "utf8").catch(() => "");
      return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
    },
    async close() {
      await slot.kill();
      await proxy.close();
    },
  };
  return slot;
}

function commandSettings({ worker, shutdownMs }: WorkerSettings): Record<string, string> {
  const given = {
    EMBEDD_LEASE_MS: worker.leaseMs,
    EMBEDD_POLL_INTERVAL_MS: worker.pollIntervalMs,
    EMBEDD_MAX_BATCH_ROWS: worker.maxBatchRows,
    EMBEDD_MAX_ATTEMPTS: worker.maxAttempts,
    EMBEDD_RETRY_DELAY_MS: worker.retryDelayMs,
    EMBEDD_SHUTDOWN_MS: shutdownMs,
    EMBEDD_THREADS: 1,
    EMBEDD_LOG_FORMAT: "json",
  };
  return Object.fromEntries(
    Object.entries(given).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)]])),
  );
}
