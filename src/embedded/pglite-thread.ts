/**
 * The thread that runs PGlite. A statement occupies its thread until it ends, and the main thread must stay free for
 * signals and for other clients.
 */
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { PGlite } from "@electric-sql/pglite";
import type { PGliteOptions } from "@electric-sql/pglite";
import { vector } from "@electric-sql/pglite-pgvector";
import { failureOf, lastWordsIn, refusalOf } from "./thread-error.js";
import { unfinishedOf } from "./thread-messages.js";
import type { Request, Response, ThreadOptions } from "./thread-messages.js";

const { dataDir, tarball, extraParams } = workerData as ThreadOptions;
/** What PostgreSQL has said before it gave up. */
let lastWords: string | undefined;

function respond(response: Response, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(response, transfer);
}

async function openPGlite(options: PGliteOptions): Promise<PGlite> {
  const db = new PGlite({
    ...options,
    extensions: { vector },
    onStderr: (line) => {
      lastWords = lastWordsIn(line) ?? lastWords;
      return true;
    },
    startParams: [...PGlite.defaultStartParams, ...extraParams],
  });
  refusePrograms(db);
  await db.waitReady;
  await db.exec("create extension if not exists vector");
  return db;
}

/** PGlite throws through PostgreSQL's C code for COPY TO PROGRAM, after which it never answers again. */
function refusePrograms(db: PGlite): void {
  const run = db.handleExternalCmd.bind(db);
  db.handleExternalCmd = (command, mode) => {
    try {
      return run(command, mode);
    } catch {
      // What popen returns if it fails: PostgreSQL reports an error.
      return 0;
    }
  };
}

async function openDirectory(path: string): Promise<PGlite> {
  if (!existsSync(join(path, "PG_VERSION"))) {
    const unfinished = unfinishedOf(path);
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished, { mode: 0o700 });
    const db = await openPGlite({ dataDir: unfinished });
    await db.close();
    await rename(unfinished, path);
  }
  return openPGlite({ dataDir: path });
}

async function handle(db: PGlite, request: Request): Promise<ArrayBuffer | undefined> {
  if (request.type === "close") await db.close();
  if (request.type === "dump") return (await db.dumpDataDir("none")).arrayBuffer();
  if (request.type === "execute") {
    await db.execProtocolRawStream(request.bytes, {
      onRawData: (chunk) => {
        // Copied: it is a view of PGlite's memory.
        const bytes = Uint8Array.from(chunk);
        respond({ id: request.id, type: "chunk", bytes }, [bytes.buffer]);
      },
    });
  }
  return undefined;
}

async function answer(id: number, work: Promise<ArrayBuffer | undefined>): Promise<void> {
  try {
    const result = await work;
    if (result === undefined) respond({ id, type: "done" });
    else respond({ id, type: "done", tarball: result }, [result]);
  } catch (error) {
    respond({ id, type: "failed", ...failureOf(error, lastWords) });
  }
}

async function start(): Promise<void> {
  try {
    const db = await (dataDir === undefined
      ? openPGlite(tarball === undefined ? {} : { loadDataDir: new Blob([tarball]) })
      : openDirectory(dataDir));
    parentPort?.on("message", (request: Request) => {
      lastWords = undefined;
      void answer(request.id, handle(db, request));
    });
    respond({ id: 0, type: "done" });
  } catch (error) {
    const failure = failureOf(error, lastWords);
    if (dataDir !== undefined) {
      const unfinished = unfinishedOf(dataDir);
      failure.code ??= await refusalOf(existsSync(unfinished) ? unfinished : dataDir);
    }
    respond({ id: 0, type: "failed", ...failure });
  }
}

await start();
