import { expect, it } from "vitest";
import { withOwnerClient } from "#embedd/database/pool.js";
import { switchModel } from "#embedd/admin/switch-model/switch-model.js";
import type { SwitchEvent } from "#embedd/admin/switch-model/switch.js";
import { watch } from "#embedd/admin/watch.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { hashProvider } from "../../../helpers/providers.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();

describeServer("switch-model, with many rows that neither model has embedded", () => {
  it("does not lock the table before few are left", async () => {
    await db.query(
      "create table docs (id int primary key, body text, embedding vector(2), embedding_model text)",
    );
    await db.query("insert into docs select i, 'text ' || i from generate_series(1, 20101) i");
    await withOwnerClient(db.url, (client) =>
      watch(client, { relation: "docs", content: ["body"], embedding: "embedding" }),
    );
    await db.query("update embedd.pipelines set served_model = 'old' where relation = 'docs'::regclass");
    const stopping = new AbortController();
    const events: SwitchEvent[] = [];
    const run = (signal?: AbortSignal) =>
      withOwnerClient(db.url, (client) =>
        switchModel(
          client,
          { relation: "docs", embedding: "embedding", model: "new", dimensions: 3, pollMs: 20, signal },
          (event) => {
            events.push(event);
            if (events.length === 3) stopping.abort();
          },
        ),
      );
    await expect(run(stopping.signal)).rejects.toThrow("abort");
    expect(events).toMatchObject([
      { step: "begin" },
      { step: "fill", counts: { pending: 20_101, behind: 0 }, mostPending: 20_100 },
      { step: "fill" },
    ]);
    // The transaction does not walk them either, if they arrived meanwhile.
    await expect(
      db.query(
        "select embedd.finish_switch(id, 100, false, false) from embedd.pipelines where shadow_of is not null",
      ),
    ).rejects.toThrow(/too many rows of docs have no new vector yet/);
    await db.query("delete from docs where id = 1");
    await run();
    expect(events.at(-1)).toMatchObject({ step: "swap" });
  });
});

describeServer("switch-model of a table with fewer rows than it may be behind", () => {
  it("swaps no vectors away before a worker of the new model is connected", async () => {
    await db.query(`
      create table small (id int primary key, body text, embedding vector(2), embedding_model text);
      insert into small select i, 'text ' || i, '[1,1]', 'old' from generate_series(1, 30) i`);
    await withOwnerClient(db.url, (client) =>
      watch(client, { relation: "small", content: ["body"], embedding: "embedding", existing: "keep" }),
    );
    await db.query("update embedd.pipelines set served_model = 'old' where relation = 'small'::regclass");
    const stopping = new AbortController();
    const steps: string[] = [];
    const run = (signal?: AbortSignal) =>
      withOwnerClient(db.url, (client) =>
        switchModel(
          client,
          { relation: "small", embedding: "embedding", model: "new", dimensions: 3, pollMs: 20, signal },
          ({ step }) => {
            steps.push(step);
            if (steps.length === 3) stopping.abort();
          },
        ),
      );
    await expect(run(stopping.signal)).rejects.toThrow("abort");
    expect(steps).toEqual(["begin", "fill", "fill"]);
    expect((await db.query("select from small where embedding is not null")).rowCount).toBe(30);
    await startTestWorker(db, hashProvider({ model: "new", dimensions: 3 }));
    await run();
    expect(steps.at(-1)).toBe("swap");
  });
});
