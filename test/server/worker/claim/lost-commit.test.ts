import { it } from "vitest";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { hashProvider } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { expectVectors, watchTable } from "../../../helpers/watched-table.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();

describeServer("a lease that the worker does not know of, because the answer to its COMMIT was lost,", () => {
  it("is released after the fault, long before it expires", async () => {
    const worker = await startTestWorker(db, hashProvider());
    const pipeline = await watchTable(db, { relation: "docs" });
    await worker.idle();
    // A claim fails after a lease of its own was committed.
    await db.query(
      `create function fail_once() returns trigger language plpgsql as $$ begin
         if exists (select from embedd.leases where pipeline_id = ${pipeline}) then raise 'cut'; end if;
         return null;
       end $$;
       create trigger fail_once before insert on embedd.leases for each statement execute function fail_once();
       begin;
       insert into embedd.leases (pipeline_id, worker, keys, expires_at)
       values (${pipeline}, ${worker.id}, '{1}', now() + interval '10 min');
       insert into docs values (1, 'leased'), (2, 'free');
       commit`,
    );
    await expectVectors(db, "docs", { 1: "leased", 2: "free" });
    await waitFor(async () => (await db.query("select from embedd.leases")).rowCount === 0, {
      what: "no lease",
    });
    await db.query("drop trigger fail_once on embedd.leases");
  });
});
