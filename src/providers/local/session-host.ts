import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { isMainThread, Worker } from "node:worker_threads";
import { createBusyFlag, stopBlocking } from "./busy-flag.js";
import type { ModelOptions, Request, Response, ThreadOptions } from "./messages.js";

/*
 * Where the session lives. Node ends threads at `process.exit` and `terminate`, and ONNX Runtime's binding aborts the
 * whole process (SIGABRT) if its thread ends during a call. In the main thread, an `exit` listener waits for that call.
 * In an application's own worker thread no code runs when the main thread exits or terminates it, so there the session
 * lives in a child process, which ends with its parent.
 */

/** The thread or process that owns the session. */
export interface SessionHost {
  /** Called once, at once. */
  onResponse(listener: (response: Response) => void): void;
  /** @param transfer buffers that become empty where a thread can take them over */
  post(request: Request, transfer?: ArrayBuffer[]): void;
  /** Whether it keeps the caller's event loop alive. */
  setRef(keepsAlive: boolean): void;
  /** Resolves when it has ended and every response was delivered, with the reason if it ended unexpectedly. */
  exited: Promise<unknown>;
}

export function startHost(model: ModelOptions): SessionHost {
  disableTelemetry();
  return isMainThread ? startThread(model) : startProcess(model);
}

/**
 * ONNX Runtime sends usage data to Microsoft, and stores a device identifier below HOME, unless this variable is set
 * before its library starts. Its Node API has no switch. A value that is already set wins. In the main thread this sets
 * the variable of the process, which the library reads; a child process inherits it.
 */
function disableTelemetry(): void {
  // eslint-disable-next-line no-restricted-syntax -- not a setting of embedd: the native library reads it
  process.env["ORT_DISABLE_TELEMETRY"] ||= "1";
}

const program = new URL("./session-thread.js", import.meta.url);

function startThread(model: ModelOptions): SessionHost {
  const busy = createBusyFlag();
  const workerData: ThreadOptions = { model, busy };
  // Without the process's flags: a thread refuses some of them, such as those of `node --eval`.
  const worker = new Worker(program, { workerData, execArgv: [] });
  const onProcessExit = (): void => stopBlocking(busy);
  process.once("exit", onProcessExit);
  let cause: unknown;
  worker.on("error", (error) => (cause = error));
  const exited = new Promise<unknown>((resolve) => worker.once("exit", () => resolve(cause)));
  void exited.then(() => process.off("exit", onProcessExit));
  return {
    onResponse: (listener) => void worker.on("message", listener),
    post: (request, transfer = []) => worker.postMessage(request, transfer),
    setRef: (keepsAlive) => (keepsAlive ? worker.ref() : worker.unref()),
    exited,
  };
}

function startProcess(model: ModelOptions): SessionHost {
  const child = fork(fileURLToPath(program), [JSON.stringify(model)], {
    serialization: "advanced",
    execArgv: [],
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const exited = new Promise<unknown>((resolve) => {
    // It could not be started.
    child.on("error", resolve);
    const disconnected = new Promise<void>((done) => child.once("disconnect", done));
    child.once("exit", (code, signal) => {
      const cause =
        code === 0 ? undefined : new Error(`it ended with ${signal ?? `exit code ${code ?? "?"}`}`);
      void disconnected.then(() => resolve(cause));
    });
  });
  return {
    onResponse: (listener) => void child.on("message", (response) => listener(response as Response)),
    // A process that has ended announces that in `exited`.
    post: (request) => void child.send(request, () => undefined),
    setRef: (keepsAlive) => {
      if (keepsAlive) child.ref();
      else child.unref();
      if (keepsAlive) child.channel?.ref();
      else child.channel?.unref();
    },
    exited,
  };
}
