// Starts a worker that cannot start, prints the error, and leaves: nothing may keep the process.
// node test/helpers/failed-start.mjs <url> [max US dollars a day]
import { createWorker } from "#embedd/worker/worker.js";

const [databaseUrl, maxUsdPerDay] = process.argv.slice(2);
const provider = {
  model: "hash",
  dimensions: 384,
  concurrency: 1,
  maxBatchRows: 16,
  usdPerMillionTokens: null,
  supportsDimensions: (asked) => asked === 384,
  countTokens: (texts) => Promise.resolve(texts.map(() => 1)),
  embed: () => Promise.reject(new Error("no text should get here")),
  close: () => Promise.resolve(),
};

try {
  await createWorker({
    databaseUrl,
    provider,
    ...(maxUsdPerDay !== undefined && { maxUsdPerDay: Number(maxUsdPerDay) }),
  });
  console.log("it started");
} catch (error) {
  console.log(error.code ?? error.message);
}
