/**
 * The thread that owns the ONNX session; inside an application's worker thread, a child process. ONNX Runtime computes
 * on the thread that calls it, and the provider's thread must stay free for notifications, health checks and signals.
 */
import { EmbeddError, messageOf } from "../../errors.js";
import { whileBusy } from "./busy-flag.js";
import type { PlainFailure, Request, RunRequest } from "./messages.js";
import { loadModelSession } from "./model-session.js";
import type { ModelSession } from "./model-session.js";
import { openChannel } from "./session-channel.js";

const channel = openChannel();
const { model, busy } = channel;
/** Calls run one at a time, because `busy` can describe only one. */
let lastCall: Promise<void> = Promise.resolve();

function plainFailure(error: unknown, kind: PlainFailure["kind"], code: PlainFailure["code"]): PlainFailure {
  if (!(error instanceof EmbeddError)) return { kind, code, message: messageOf(error) };
  const { hint, message } = error;
  return { kind, code: error.code, message, ...(hint !== undefined && { hint }) };
}

async function run(session: ModelSession, { id, ids, lengths, length }: RunRequest): Promise<void> {
  try {
    // Copied: the native buffer cannot be transferred and is freed with its tensor.
    const vectors = Float32Array.from(await whileBusy(busy, () => session.run(ids, lengths, length)));
    channel.send({ type: "vectors", id, vectors }, [vectors.buffer]);
  } catch (error) {
    channel.send({ type: "failed", id, failure: plainFailure(error, "provider", "local_inference_failed") });
  }
}

async function close(session: ModelSession): Promise<void> {
  await whileBusy(busy, () => session.close()).finally(() => channel.close());
}

try {
  const session = await whileBusy(busy, () => loadModelSession(model));
  channel.onRequest((request: Request) => {
    lastCall = lastCall.then(() => (request.type === "run" ? run(session, request) : close(session)));
  });
  channel.send({ type: "ready" });
} catch (error) {
  channel.send({ type: "unusable", failure: plainFailure(error, "configuration", "model_unusable") });
  channel.close();
}
