import { parentPort, workerData } from "node:worker_threads";
import type { MessagePort } from "node:worker_threads";
import { createBusyFlag } from "./busy-flag.js";
import type { ModelOptions, Request, Response, ThreadOptions } from "./messages.js";

/** The session's end of the connection to its provider. */
export interface SessionChannel extends ThreadOptions {
  /** @param transfer buffers that may become empty */
  send(response: Response, transfer?: ArrayBuffer[]): void;
  onRequest(listener: (request: Request) => void): void;
  /** Ends this thread or process after the last response. */
  close(): void;
}

/** @throws Error when this is neither a worker thread nor a child process with an IPC channel */
export function openChannel(): SessionChannel {
  return parentPort ? ofThread(parentPort) : ofProcess();
}

function ofThread(port: MessagePort): SessionChannel {
  return {
    ...(workerData as ThreadOptions),
    send: (response, transfer = []) => port.postMessage(response, transfer),
    onRequest: (listener) => void port.on("message", listener),
    close: () => port.close(),
  };
}

function ofProcess(): SessionChannel {
  const [, , model] = process.argv;
  if (process.send === undefined || model === undefined) {
    throw new Error("session-thread must run as a worker thread or a child process");
  }
  const send = process.send.bind(process);
  let lastSent: Promise<void> = Promise.resolve();
  // The parent decides when this process ends: a signal to the whole group, such as Ctrl-C, must not stop a batch.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
  process.on("disconnect", () => process.exit());
  return {
    model: JSON.parse(model) as ModelOptions,
    busy: createBusyFlag(),
    send: (response) => {
      lastSent = new Promise((resolve) => send(response, undefined, undefined, () => resolve()));
    },
    onRequest: (listener) => void process.on("message", listener),
    close: () => void lastSent.then(() => process.disconnect()),
  };
}
