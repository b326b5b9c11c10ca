import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { migrate } from "#embedd/admin/migrate.js";
import type { Logger } from "#embedd/logger.js";
import type { Provider } from "#embedd/providers/provider.js";
import { createWorker } from "#embedd/worker/worker.js";
import type { Worker } from "#embedd/worker/worker.js";
import { hashVector } from "../helpers/hash-vector.mjs";
import {
  createServerDatabase,
  databaseUrl,
  dropServerDatabase,
  newName,
  withAdmin,
} from "../helpers/server-databases.js";

export const DIMENSIONS = 8;
export const MODELS = ["alpha", "beta"] as const;
export type Model = (typeof MODELS)[number];

/** A writer that waits for a lock longer than this was blocked. */
const WRITER_LOCK_MS = 8_000;
/** So long that re-embedding, which yields to each sweep, gets its turn on a busy machine. */
const POLL_MS = 1_000;
const TAKEOVER_MS = 500;
/** So long that edits meet rows in flight. */
const MOST_EMBED_MS = 40;

/** The vector of a text under a model. */
export const vectorOf = (model: string, text: string): Float32Array =>
  hashVector(`${model}: ${text}`, DIMENSIONS);

function provider(model: Model): Provider {
  return {
    model,
    dimensions: DIMENSIONS,
    concurrency: 2,
    maxBatchRows: 2_048,
    usdPerMillionTokens: 0,
    supportsDimensions: (asked) => asked === DIMENSIONS,
    countTokens: (texts) => Promise.resolve(texts.map((text) => text.length)),
    async embed(texts) {
      await sleep(Math.random() * MOST_EMBED_MS);
      return texts.map((text) => vectorOf(model, text));
    },
    close: () => Promise.resolve(),
  };
}

/** The log of all workers, for a failed sequence. */
export type WorkerLog = string[];

/** A database of its own, an owner's connection, an application's connection, and a slot for a worker of each model. */
export interface Stage {
  url: string;
  /** Superuser: the owner and administrator. */
  admin: pg.Client;
  /** A second connection of the administrator, for what happens while a command runs. */
  observer: pg.Client;
  /** The application. */
  writer: pg.Client;
  workerRole: string;
  running: (model: Model) => boolean;
  startWorker: (model: Model) => Promise<void>;
  stopWorker: (model: Model) => Promise<void>;
  /** A superuser's connection that replaces the one that a command was left waiting on. */
  reconnect: () => Promise<void>;
  log: WorkerLog;
  close: () => Promise<void>;
}

const LOG_LINES = 400;

function logger(model: Model, log: WorkerLog): Logger {
  const started = performance.now();
  const add = (level: string) => (details: object, message: string) => {
    const seconds = ((performance.now() - started) / 1_000).toFixed(2);
    log.push(`${seconds} ${model} ${level}: ${message} ${JSON.stringify(details)}`);
    if (log.length > LOG_LINES) log.shift();
  };
  return { debug: () => undefined, info: add("info"), warn: add("warn"), error: add("error") };
}

async function connect(url: string, name: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: name });
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

/** A database with embedd's schema, from which those of the stages are cloned. @returns its name */
export async function createTemplate(serverUrl: string): Promise<string> {
  const name = newName("order");
  await createServerDatabase(serverUrl, name);
  await migrate(databaseUrl(serverUrl, name));
  return name;
}

/** embedd.chunks has too many dimensions for these workers. */
export async function install(url: string): Promise<void> {
  await migrate(url);
  const client = await connect(url, "order admin");
  try {
    await client.query(
      "select embedd.unwatch('embedd.chunks') from embedd.pipelines where relation = 'embedd.chunks'::regclass",
    );
  } finally {
    await client.end();
  }
}

/** @param template a database with embedd's schema */
export async function openStage(serverUrl: string, template: string): Promise<Stage> {
  const name = newName("order");
  await createServerDatabase(serverUrl, name, template);
  const url = databaseUrl(serverUrl, name);
  const workerRole = `embedd_order_${randomBytes(6).toString("hex")}`;
  const workers = new Map<Model, Worker>();
  const log: WorkerLog = [];
  const clients: pg.Client[] = [];
  const open = async (what: string): Promise<pg.Client> => {
    const client = await connect(url, what);
    clients.push(client);
    return client;
  };
  const admin = await open("order admin");
  const observer = await open("order observer");
  const writer = await open("order writer");
  await writer.query(`set lock_timeout = ${WRITER_LOCK_MS}; set statement_timeout = '2min'`);
  await admin.query(`create role ${workerRole} login`);
  const workerUrl = new URL(url);
  workerUrl.username = workerRole;

  const stage: Stage = {
    url,
    admin,
    observer,
    writer,
    workerRole,
    log,
    running: (model) => workers.has(model),
    async startWorker(model) {
      if (workers.has(model)) return;
      const worker = await createWorker({
        databaseUrl: workerUrl.toString(),
        provider: provider(model),
        log: logger(model, log),
        pollIntervalMs: POLL_MS,
        takeoverMs: TAKEOVER_MS,
        leaseMs: 2_000,
        retryDelayMs: 200,
        maxConnections: 4,
      });
      workers.set(model, worker);
    },
    async stopWorker(model) {
      const worker = workers.get(model);
      workers.delete(model);
      await worker?.stop();
    },
    async reconnect() {
      stage.admin = await open("order admin");
    },
    async close() {
      await Promise.all([...workers.values()].map((worker) => worker.stop().catch(() => undefined)));
      for (const client of clients) await client.end().catch(() => undefined);
      await dropServerDatabase(serverUrl, name);
      await withAdmin(serverUrl, (client) => client.query(`drop role ${workerRole}`));
    },
  };
  return stage;
}
