import { expect, it } from "vitest";
import { useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

it("a worker is live while it runs, no stranger, and gone once it has stopped", async () => {
  const worker = await startTestWorker(db, hashProvider());
  await worker.idle();
  const workers = () => db.query("select id, state from embedd.workers");
  expect((await workers()).rows).toEqual([{ id: worker.id, state: "live" }]);
  expect((await db.query("select from embedd.foreign_locks")).rowCount).toBe(0);
  await worker.stop();
  expect((await workers()).rows).toEqual([]);
});
