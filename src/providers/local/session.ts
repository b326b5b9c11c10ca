import { Worker } from "node:worker_threads";
import { EmbeddError } from "../../errors.js";
import { createBusyFlag, stopBlocking } from "./busy-flag.js";
import type { ModelOptions, PlainFailure, Request, Response, ThreadOptions } from "./messages.js";

/** The main thread's side of the session thread. */
export interface InferenceSession {
  /** Loads the model now rather than at the first `run`. */
  start(): Promise<void>;
  /**
   * @param ids [lengths.length, length] token ids, padded; taken over, the caller's array is emptied
   * @param lengths tokens of each row that count; taken over as well
   * @returns [lengths.length, dimensions]
   * @throws EmbeddError `provider` when the thread fails; the next call starts another one
   */
  run(ids: Int32Array<ArrayBuffer>, lengths: Int32Array<ArrayBuffer>, length: number): Promise<Float32Array>;
  /** Ends the thread; calls in flight reject. Safe to call twice. */
  close(): Promise<void>;
}

interface Waiting {
  resolve(vectors: Float32Array): void;
  reject(error: Error): void;
}

interface Thread {
  worker: Worker;
  ready: Promise<void>;
  exited: Promise<void>;
  waiting: Map<number, Waiting>;
}

export function createInferenceSession(options: ModelOptions): InferenceSession {
  let thread: Thread | undefined;
  let closing: Promise<void> | undefined;
  let nextId = 0;

  const running = (): Thread => {
    if (closing) throw closedError();
    if (thread) return thread;
    const started = startThread(options);
    thread = started;
    void started.exited.then(() => {
      if (thread === started) thread = undefined;
    });
    return started;
  };

  return {
    start: async () => running().ready,
    run: async (ids, lengths, length) => {
      const current = running();
      await current.ready;
      const id = nextId++;
      return new Promise<Float32Array>((resolve, reject) => {
        if (closing) return reject(closedError());
        current.waiting.set(id, { resolve, reject });
        holdProcess(current);
        const request: Request = { type: "run", id, ids, lengths, length };
        current.worker.postMessage(request, [ids.buffer, lengths.buffer]);
      });
    },
    close: () => (closing ??= thread ? endThread(thread) : Promise.resolve()),
  };
}

function startThread(model: ModelOptions): Thread {
  const busy = createBusyFlag();
  const workerData: ThreadOptions = { model, busy };
  // Without the process's own flags: a program under `node --eval` has some that a thread refuses.
  const worker = new Worker(new URL("./session-thread.js", import.meta.url), { workerData, execArgv: [] });
  const onProcessExit = (): void => stopBlocking(busy);
  process.once("exit", onProcessExit);
  const waiting = new Map<number, Waiting>();
  let cause: unknown;
  const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  void exited.then(() => process.off("exit", onProcessExit));
  const ready = new Promise<void>((resolve, reject) => {
    worker.on("message", (response: Response) => {
      if (response.type === "ready") resolve();
      else if (response.type === "unusable") reject(asError(response.failure));
      else settle(thread, response);
    });
    worker.on("error", (error) => (cause = error));
    void exited.then(() => {
      const gone = crashError(cause);
      reject(gone);
      for (const call of waiting.values()) call.reject(gone);
      waiting.clear();
    });
  });
  const thread = { worker, ready, exited, waiting };
  // Held while it loads or computes; otherwise a forgotten provider does not keep the process alive.
  void ready.then(
    () => holdProcess(thread),
    () => undefined,
  );
  return thread;
}

function settle(thread: Thread, response: Extract<Response, { id: number }>): void {
  const call = thread.waiting.get(response.id);
  // Rejected when the session was closed; the process has to stay until the thread has ended.
  if (call === undefined) return;
  thread.waiting.delete(response.id);
  holdProcess(thread);
  if (response.type === "vectors") call.resolve(response.vectors);
  else call.reject(asError(response.failure));
}

function holdProcess({ worker, waiting }: Thread): void {
  if (waiting.size > 0) worker.ref();
  else worker.unref();
}

async function endThread({ worker, ready, exited, waiting }: Thread): Promise<void> {
  for (const call of waiting.values()) call.reject(closedError());
  waiting.clear();
  worker.ref();
  // A thread that still loads cannot be asked: it finishes first, or fails and leaves by itself.
  await ready.catch(() => undefined);
  worker.postMessage({ type: "close" } satisfies Request);
  await exited;
}

function asError({ message, ...options }: PlainFailure): EmbeddError {
  return new EmbeddError(message, options);
}

function crashError(cause: unknown): EmbeddError {
  const code = "local_inference_crashed";
  return new EmbeddError("the inference thread ended unexpectedly", { kind: "provider", code, cause });
}

function closedError(): EmbeddError {
  return new EmbeddError("the local provider is closed", { kind: "provider", code: "provider_closed" });
}
