import { expect, it } from "vitest";
import type { Provider } from "#embedd/providers/provider.js";
import { useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { watchTable } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

/** Takes 200 ms for whatever it is given, and gives up when told to. */
function slowProvider(ms = 200): Provider {
  const inner = hashProvider();
  return {
    ...inner,
    embed: async (texts, options = {}) => {
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(resolve, ms);
        options.signal?.addEventListener("abort", () => {
          clearTimeout(timer);
          reject(options.signal?.reason as Error);
        });
      });
      return inner.embed(texts);
    },
  };
}

const done = async (table: string): Promise<number> =>
  (await db.query<{ n: number }>(`select count(embedding)::int as n from ${table}`)).rows[0]?.n ?? -1;

const leases = async (pipeline: number) =>
  (await db.query("select from embedd.leases where pipeline_id = $1", [pipeline])).rowCount;

it("a paused pipeline stands still on all workers within a second, and goes on within a second", async () => {
  for (const provider of [slowProvider(), slowProvider()])
    await startTestWorker(db, provider, { maxBatchRows: 16 });
  const pipeline = await watchTable(db, { relation: "paused" });
  await watchTable(db, { relation: "other" });
  await db.query("insert into paused select i, 'text ' || i from generate_series(1, 4000) i");
  await waitFor(async () => (await done("paused")) > 100, { timeoutMs: 20_000, what: "both to be at work" });

  await db.query("update embedd.pipelines set paused = true where id = $1", [pipeline]);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const still = await done("paused");
  expect(still).toBeLessThan(4_000);
  expect(await leases(pipeline)).toBe(0);
  // Others are served, and the paused one is not, in the time that this takes.
  await db.query("insert into other select i, 'text ' || i from generate_series(1, 200) i");
  await waitFor(async () => (await done("other")) === 200, { timeoutMs: 20_000, what: "the other table" });
  expect(await done("paused")).toBe(still);

  await db.query("update embedd.pipelines set paused = false where id = $1", [pipeline]);
  await waitFor(async () => (await done("paused")) > still, { timeoutMs: 1_000, what: "it to go on" });
});

it("a pause gives back what a slow call would hold for long", async () => {
  await startTestWorker(db, slowProvider(60_000));
  const pipeline = await watchTable(db, { relation: "held" });
  await db.query("insert into held values (1, 'one')");
  await waitFor(async () => (await leases(pipeline)) === 1, {
    timeoutMs: 10_000,
    what: "the claim",
  });
  await db.query("update embedd.pipelines set paused = true where id = $1", [pipeline]);
  await waitFor(async () => (await leases(pipeline)) === 0, {
    timeoutMs: 1_000,
    what: "the row to be given back",
  });
});
