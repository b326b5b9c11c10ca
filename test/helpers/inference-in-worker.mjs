/**
 * An application that embeds in a worker thread of its own, and ends while a batch is computed, as its argument says:
 * `exit` (the main thread), `terminate` (the thread), `throw` (an error that nobody catches), or `close` (in order).
 */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { createLocalProvider } from "#embedd/providers/local/index.js";

if (isMainThread) {
  const [, , how] = process.argv;
  const worker = new Worker(new URL(import.meta.url), { workerData: how });
  worker.on("error", ({ message }) => console.log(`error: ${message}`));
  worker.on("exit", () => console.log("ended"));
  worker.on("message", () => {
    if (how === "exit") process.exit(0);
    if (how === "terminate") void worker.terminate();
  });
} else {
  const provider = await createLocalProvider({ tokenBudget: 65_536 });
  const texts = Array.from({ length: 4 }, () => "some more words ".repeat(80));
  const calls = Array.from({ length: 8 }, () => provider.embed(texts));
  // The session computes the batch of the next call.
  await calls[1];
  parentPort.postMessage("computing");
  if (workerData === "throw")
    setImmediate(() => {
      throw new Error("of the application");
    });
  const vectors = await Promise.all(calls);
  if (workerData === "close") {
    await provider.close();
    parentPort.close();
    console.log(`${vectors.flat().length} vectors`);
  }
}
