import { Worker } from "node:worker_threads";
import { ownFile } from "../own-file.js";
import type { Request, Response, ThreadOptions, Work } from "./thread-messages.js";

/** PGlite in a thread of its own. */
export interface Database {
  /** Runs messages of PostgreSQL's protocol. */
  execProtocolRawStream(
    bytes: Uint8Array,
    options: { onRawData: (chunk: Uint8Array) => void },
  ): Promise<void>;
  /** The data directory as a tarball. */
  dump(): Promise<Blob>;
  /** Flushes to disk. */
  close(): Promise<void>;
  /** Ends the thread at once, in any statement. What was committed stays. */
  terminate(): Promise<void>;
}

interface Call {
  onChunk: (bytes: Uint8Array) => void;
  resolve: (tarball: ArrayBuffer | undefined) => void;
  reject: (error: Error) => void;
}

/** Opens PGlite with pgvector. @throws Error if it cannot start, with the `code` of the file system if it is the cause */
export async function openDatabase(options: ThreadOptions): Promise<Database> {
  const program = ownFile(import.meta.url, "./pglite-thread.js", "the thread of embedded PostgreSQL");
  // Without the process's flags: a thread refuses some of them, such as those of `node --eval`.
  const worker = new Worker(program, { workerData: options, execArgv: [] });
  const calls = new Map<number, Call>();
  let lastId = 0;
  let ended: Error | undefined;

  function end(error: Error): void {
    ended ??= error;
    for (const call of calls.values()) call.reject(ended);
    calls.clear();
  }

  worker.on("error", end);
  worker.on("exit", (code) => {
    end(new Error(`its thread has ended with exit code ${code}`));
  });
  worker.on("message", (response: Response) => {
    const call = calls.get(response.id);
    if (response.type === "chunk") {
      call?.onChunk(response.bytes);
      return;
    }
    calls.delete(response.id);
    if (response.type === "done") call?.resolve(response.tarball);
    else call?.reject(Object.assign(new Error(response.message), { code: response.code }));
  });

  function expect(id: number, onChunk: Call["onChunk"] = () => undefined): Promise<ArrayBuffer | undefined> {
    return new Promise((resolve, reject) => {
      if (ended === undefined) calls.set(id, { onChunk, resolve, reject });
      else reject(ended);
    });
  }

  function call(work: Work, onChunk?: Call["onChunk"]): Promise<ArrayBuffer | undefined> {
    const id = ++lastId;
    const answer = expect(id, onChunk);
    worker.postMessage({ ...work, id } satisfies Request);
    return answer;
  }

  const terminate = async (): Promise<void> => {
    await worker.terminate();
  };
  try {
    await expect(0);
  } catch (error) {
    await terminate();
    throw error;
  }
  return {
    async execProtocolRawStream(bytes, { onRawData }) {
      await call({ type: "execute", bytes }, onRawData);
    },
    async dump() {
      const tarball = await call({ type: "dump" });
      return new Blob(tarball === undefined ? [] : [tarball]);
    },
    async close() {
      await call({ type: "close" });
    },
    terminate,
  };
}
