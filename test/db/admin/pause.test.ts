import { expect, it } from "vitest";
import { useDatabase } from "../../helpers/database.js";
import { slowProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { watchTable } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

const done = async (table: string): Promise<number> =>
  (await db.query<{ n: number }>(`select count(embedding)::int as n from ${table}`)).rows[0]?.n ?? -1;

const leases = async (pipeline: number) =>
  (await db.query("select from embedd.leases where pipeline_id = $1", [pipeline])).rowCount;

it("a paused pipeline stops on all workers in the middle of its backlog, and resumes", async () => {
  const workers = [
    await startTestWorker(db, slowProvider(200), { maxBatchRows: 16 }),
    await startTestWorker(db, slowProvider(200), { maxBatchRows: 16 }),
  ];
  const pipeline = await watchTable(db, { relation: "paused" });
  await watchTable(db, { relation: "other" });
  await db.query("insert into paused select i, 'text ' || i from generate_series(1, 4000) i");
  await waitFor(async () => (await done("paused")) > 100, { what: "both to be at work" });

  await db.query("update embedd.pipelines set paused = true where id = $1", [pipeline]);
  // A worker that still served the table would not be idle before all 4,000 rows are embedded.
  await Promise.all(workers.map((worker) => worker.idle()));
  await waitFor(async () => (await leases(pipeline)) === 0, { what: "no lease" });
  const still = await done("paused");
  expect(still).toBeLessThan(4_000);
  // Meanwhile the other pipelines are served, and the paused one is not.
  await db.query("insert into other select i, 'text ' || i from generate_series(1, 200) i");
  await waitFor(async () => (await done("other")) === 200, { what: "the other table" });
  expect(await done("paused")).toBe(still);

  await db.query("update embedd.pipelines set paused = false where id = $1", [pipeline]);
  await waitFor(async () => (await done("paused")) > still, { what: "it to resume" });
});

it("a pause releases the rows of a slow provider call", async () => {
  await startTestWorker(db, slowProvider(3_600_000));
  const pipeline = await watchTable(db, { relation: "held" });
  await db.query("insert into held values (1, 'one')");
  await waitFor(async () => (await leases(pipeline)) === 1, { what: "the claim" });
  await db.query("update embedd.pipelines set paused = true where id = $1", [pipeline]);
  await waitFor(async () => (await leases(pipeline)) === 0, { what: "the row to be released" });
});
