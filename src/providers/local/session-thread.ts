/**
 * The thread that owns the ONNX session. ONNX Runtime computes on the thread that calls it, and the main thread
 * must stay free for notifications, health checks and signals.
 */
import { parentPort, workerData } from "node:worker_threads";
import type { MessagePort } from "node:worker_threads";
import { EmbeddError, messageOf } from "../../errors.js";
import { whileBusy } from "./busy-flag.js";
import type { PlainFailure, Request, Response, RunRequest, ThreadOptions } from "./messages.js";
import { loadModelSession } from "./model-session.js";
import type { ModelSession } from "./model-session.js";

const port = requireParent();

const { model, busy } = workerData as ThreadOptions;
/** Calls run one at a time, because `busy` can describe only one. */
let lastCall: Promise<void> = Promise.resolve();

const send = (response: Response, transfer: ArrayBuffer[] = []): void => {
  port.postMessage(response, transfer);
};

function requireParent(): MessagePort {
  if (parentPort) return parentPort;
  throw new Error("session-thread must run as a worker thread");
}

function plainFailure(error: unknown, kind: PlainFailure["kind"], code: PlainFailure["code"]): PlainFailure {
  if (!(error instanceof EmbeddError)) return { kind, code, message: messageOf(error) };
  const { hint, message } = error;
  return { kind, code: error.code, message, ...(hint !== undefined && { hint }) };
}

async function run(session: ModelSession, { id, ids, lengths, length }: RunRequest): Promise<void> {
  try {
    // Copied: the native buffer cannot be transferred and is freed with its tensor.
    const vectors = Float32Array.from(await whileBusy(busy, () => session.run(ids, lengths, length)));
    send({ type: "vectors", id, vectors }, [vectors.buffer]);
  } catch (error) {
    send({ type: "failed", id, failure: plainFailure(error, "provider", "local_inference_failed") });
  }
}

async function close(session: ModelSession): Promise<void> {
  await whileBusy(busy, () => session.close()).finally(() => port.close());
}

try {
  const session = await whileBusy(busy, () => loadModelSession(model));
  port.on("message", (request: Request) => {
    lastCall = lastCall.then(() => (request.type === "run" ? run(session, request) : close(session)));
  });
  send({ type: "ready" });
} catch (error) {
  send({ type: "unusable", failure: plainFailure(error, "configuration", "model_unusable") });
  port.close();
}
