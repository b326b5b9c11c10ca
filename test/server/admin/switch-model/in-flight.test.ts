import { expect, it } from "vitest";
import { withOwnerClient } from "#embedd/database/pool.js";
import { switchModel } from "#embedd/admin/switch-model/switch-model.js";
import type { SwitchOptions } from "#embedd/admin/switch-model/switch.js";
import { watch } from "#embedd/admin/watch.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { heldProvider } from "../../../helpers/providers.js";
import { expectModel, namedProvider } from "../../../helpers/switch-model.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();
const DIMENSIONS = 16;

/** A table whose old and new vectors have equal dimensions, so that nothing but embedd keeps them apart. */
async function createDocs(relation: string): Promise<void> {
  await db.query(
    `create table ${relation} (id int primary key, body text, embedding vector(${DIMENSIONS}), embedding_model text);
     insert into ${relation} select i, 'text ' || i from generate_series(1, 20) i;
     create table if not exists written (relation text, model text, was text);
     create or replace function note() returns trigger language plpgsql as $$
       begin
         if new.embedding_model is distinct from old.embedding_model then
           insert into written values (tg_table_name, new.embedding_model, old.embedding_model);
         end if;
         return null;
       end $$;
     create trigger note after update on ${relation} for each row execute function note()`,
  );
  await withOwnerClient(db.url, (client) =>
    watch(client, { relation, content: ["body"], embedding: "embedding" }),
  );
}

const run = (relation: string, options: Partial<SwitchOptions> = {}) =>
  withOwnerClient(db.url, (client) =>
    switchModel(client, {
      relation,
      embedding: "embedding",
      model: "new",
      dimensions: DIMENSIONS,
      pollMs: 20,
      ...options,
    }),
  );

/** Adds the new columns and stops; the next run resumes. */
async function begin(relation: string): Promise<void> {
  await expect(run(relation, { maxBehind: 0, signal: AbortSignal.abort() })).rejects.toThrow("abort");
}

describeServer("a batch in flight across the swap", () => {
  it("of the old model is never written to the new column, with or without an edit of its text", async () => {
    await createDocs("docs");
    const old = heldProvider(namedProvider("old", DIMENSIONS));
    const oldWorker = await startTestWorker(db, old.provider);
    await expectModel(db, "docs", "old", DIMENSIONS);
    await begin("docs");
    const next = heldProvider(namedProvider("new", DIMENSIONS));
    const nextWorker = await startTestWorker(db, next.provider);

    const inFlight = old.hold();
    await db.query("update docs set body = 'held ' || id where id <= 3");
    await inFlight;
    await run("docs", { maxBehind: 0 });
    await expectModel(db, "docs", "new", DIMENSIONS);
    // One row of the old model's batch is pending again with the same text, and one with another text.
    const nextInFlight = next.hold();
    await db.query(
      "update docs set embedding = null, embedding_model = null where id = 1; update docs set body = 'edited' where id = 2",
    );
    await nextInFlight;
    old.release();
    // The old worker writes what it can before it has stopped.
    await oldWorker.stop();
    expect((await db.query("select id, embedding_model from docs where id <= 3 order by id")).rows).toEqual([
      { id: 1, embedding_model: null },
      { id: 2, embedding_model: null },
      { id: 3, embedding_model: "new" },
    ]);
    next.release();
    await expectModel(db, "docs", "new", DIMENSIONS);
    expect((await db.query("select from written where was = 'new' and model is not null")).rowCount).toBe(0);
    await nextWorker.stop();
  });

  it("of the new model, under the shadow's name, is dropped and computed again", async () => {
    await createDocs("again");
    const oldWorker = await startTestWorker(db, namedProvider("old", DIMENSIONS));
    await expectModel(db, "again", "old", DIMENSIONS);
    await begin("again");
    const next = heldProvider(namedProvider("new", DIMENSIONS));
    const inFlight = next.hold();
    const nextWorker = await startTestWorker(db, next.provider);
    const texts = await inFlight;
    await run("again", { maxBehind: 20 });
    expect((await db.query("select from again where embedding is null")).rowCount).toBe(20);
    next.release();
    await expectModel(db, "again", "new", DIMENSIONS);
    expect(texts.length).toBeGreaterThan(0);
    await Promise.all([oldWorker.stop(), nextWorker.stop()]);
  });

  it("of a model that has lost the pipeline to another is not written", async () => {
    await createDocs("lost");
    const first = heldProvider(namedProvider("first", DIMENSIONS));
    const firstWorker = await startTestWorker(db, first.provider);
    await expectModel(db, "lost", "first", DIMENSIONS);
    const inFlight = first.hold();
    await db.query("update lost set body = 'held' where id = 1");
    await inFlight;
    await db.query("update embedd.pipelines set served_model = 'second' where relation = 'lost'::regclass");
    first.release();
    await firstWorker.stop();
    expect((await db.query("select embedding_model from lost where id = 1")).rows).toEqual([
      { embedding_model: null },
    ]);
    expect((await db.query("select from embedd.leases")).rowCount).toBe(0);
  });
});
