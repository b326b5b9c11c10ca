import { Worker } from "node:worker_threads";
import { EmbeddError } from "../../errors.js";
import { createBusyFlag, stopBlocking } from "./busy-flag.js";
import type { ModelOptions, PlainFailure, Request, Response, ThreadOptions } from "./messages.js";

/** The main thread's side of the session thread. */
export interface InferenceSession {
  /** Loads the model now rather than at the first `run`. */
  start(): Promise<void>;
  /**
   * @param ids [lengths.length, length] token ids, padded; transferred, so the caller's array becomes empty
   * @param lengths tokens of each row, without padding; also transferred
   * @returns [lengths.length, dimensions]
   * @throws EmbeddError `provider` when the thread fails; the next call starts a new thread
   */
  run(ids: Int32Array<ArrayBuffer>, lengths: Int32Array<ArrayBuffer>, length: number): Promise<Float32Array>;
  /** Ends the thread and rejects calls in flight. Idempotent. */
  close(): Promise<void>;
}

interface PendingCall {
  resolve(vectors: Float32Array): void;
  reject(error: Error): void;
}

interface Thread {
  worker: Worker;
  ready: Promise<void>;
  exited: Promise<void>;
  calls: Map<number, PendingCall>;
}

export function createInferenceSession(options: ModelOptions): InferenceSession {
  let thread: Thread | undefined;
  let closing: Promise<void> | undefined;
  let nextId = 0;

  const runningThread = (): Thread => {
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
    start: async () => runningThread().ready,
    run: async (ids, lengths, length) => {
      const current = runningThread();
      await current.ready;
      const id = nextId++;
      return new Promise<Float32Array>((resolve, reject) => {
        if (closing) return reject(closedError());
        current.calls.set(id, { resolve, reject });
        keepProcessAlive(current);
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
  // Without the process's flags: a thread refuses some of them, such as those of `node --eval`.
  const worker = new Worker(new URL("./session-thread.js", import.meta.url), { workerData, execArgv: [] });
  const onProcessExit = (): void => stopBlocking(busy);
  process.once("exit", onProcessExit);
  const calls = new Map<number, PendingCall>();
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
      const crash = crashError(cause);
      reject(crash);
      for (const call of calls.values()) call.reject(crash);
      calls.clear();
    });
  });
  const thread = { worker, ready, exited, calls };
  // The thread keeps the process alive while it loads or computes; an idle, unclosed provider does not.
  void ready.then(
    () => keepProcessAlive(thread),
    () => undefined,
  );
  return thread;
}

function settle(thread: Thread, response: Extract<Response, { id: number }>): void {
  const call = thread.calls.get(response.id);
  // `close` has rejected the call; the process must stay alive until the thread has ended.
  if (call === undefined) return;
  thread.calls.delete(response.id);
  keepProcessAlive(thread);
  if (response.type === "vectors") call.resolve(response.vectors);
  else call.reject(asError(response.failure));
}

function keepProcessAlive({ worker, calls }: Thread): void {
  if (calls.size > 0) worker.ref();
  else worker.unref();
}

async function endThread({ worker, ready, exited, calls }: Thread): Promise<void> {
  for (const call of calls.values()) call.reject(closedError());
  calls.clear();
  worker.ref();
  // A loading thread handles no messages: it first finishes loading, or fails and exits.
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
