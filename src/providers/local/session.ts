import { configurationError, EmbeddError, messageOf } from "../../errors.js";
import type { ModelOptions, PlainFailure, Response } from "./messages.js";
import { startHost } from "./session-host.js";
import type { SessionHost } from "./session-host.js";

/** The provider's side of the session. */
export interface InferenceSession {
  /** Loads the model now rather than at the first `run`. */
  start(): Promise<void>;
  /**
   * @param ids [lengths.length, length] token ids, padded; the caller's array may become empty
   * @param lengths tokens of each row, without padding; may become empty too
   * @returns [lengths.length, dimensions]
   * @throws EmbeddError `provider` when the session fails; the next call starts a new one
   */
  run(ids: Int32Array<ArrayBuffer>, lengths: Int32Array<ArrayBuffer>, length: number): Promise<Float32Array>;
  /** Ends the session and rejects calls in flight. Idempotent. */
  close(): Promise<void>;
}

interface PendingCall {
  resolve(vectors: Float32Array): void;
  reject(error: Error): void;
}

interface Running {
  host: SessionHost;
  ready: Promise<void>;
  calls: Map<number, PendingCall>;
}

export function createInferenceSession(options: ModelOptions): InferenceSession {
  let running: Running | undefined;
  let closing: Promise<void> | undefined;
  let nextId = 0;

  const ensureRunning = (): Running => {
    if (closing) throw closedError();
    if (running) return running;
    const started = startSession(options);
    running = started;
    void started.host.exited.then(() => {
      if (running === started) running = undefined;
    });
    return started;
  };

  return {
    start: async () => ensureRunning().ready,
    run: async (ids, lengths, length) => {
      const current = ensureRunning();
      await current.ready;
      const id = nextId++;
      return new Promise<Float32Array>((resolve, reject) => {
        if (closing) return reject(closedError());
        current.calls.set(id, { resolve, reject });
        keepProcessAlive(current);
        current.host.post({ type: "run", id, ids, lengths, length }, [ids.buffer, lengths.buffer]);
      });
    },
    close: () => (closing ??= running ? endSession(running) : Promise.resolve()),
  };
}

function startSession(model: ModelOptions): Running {
  const host = startHost(model);
  const calls = new Map<number, PendingCall>();
  let isReady = false;
  const ready = new Promise<void>((resolve, reject) => {
    host.onResponse((response) => {
      if (response.type === "ready") {
        isReady = true;
        resolve();
      } else if (response.type === "unusable") reject(asError(response.failure));
      else settle(running, response);
    });
    void host.exited.then((cause) => {
      const crash = isReady ? crashError(cause) : startError(cause);
      reject(crash);
      for (const call of calls.values()) call.reject(crash);
      calls.clear();
    });
  });
  const running = { host, ready, calls };
  // It keeps the process alive while it loads or computes; an idle, unclosed provider does not.
  void ready.then(
    () => keepProcessAlive(running),
    () => undefined,
  );
  return running;
}

function settle(running: Running, response: Extract<Response, { id: number }>): void {
  const call = running.calls.get(response.id);
  // `close` has rejected the call; the process must stay alive until the session has ended.
  if (call === undefined) return;
  running.calls.delete(response.id);
  keepProcessAlive(running);
  if (response.type === "vectors") call.resolve(response.vectors);
  else call.reject(asError(response.failure));
}

function keepProcessAlive({ host, calls }: Running): void {
  host.setRef(calls.size > 0);
}

async function endSession({ host, ready, calls }: Running): Promise<void> {
  for (const call of calls.values()) call.reject(closedError());
  calls.clear();
  host.setRef(true);
  // A loading session handles no messages: it first finishes loading, or fails and exits.
  await ready.catch(() => undefined);
  host.post({ type: "close" });
  await host.exited;
}

function asError({ message, ...options }: PlainFailure): EmbeddError {
  return new EmbeddError(message, options);
}

function crashError(cause: unknown): EmbeddError {
  const reason = cause === undefined ? "" : `: ${messageOf(cause)}`;
  const options = { kind: "provider", code: "local_inference_crashed", cause } as const;
  return new EmbeddError(`the inference thread ended unexpectedly${reason}`, options);
}

/** The session ended before it could load the model. A bundler, for example, leaves out the thread's file. */
function startError(cause: unknown): EmbeddError {
  const code: unknown = Reflect.get(Object(cause), "code");
  if (code !== "ERR_MODULE_NOT_FOUND" && code !== "MODULE_NOT_FOUND") return crashError(cause);
  return configurationError(
    "incomplete_package",
    `the inference thread cannot start: ${messageOf(cause)}; a bundler must leave this package external`,
    "npm ci",
  );
}

function closedError(): EmbeddError {
  return new EmbeddError("the local provider is closed", { kind: "provider", code: "provider_closed" });
}
