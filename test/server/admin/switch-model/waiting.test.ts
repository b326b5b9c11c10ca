import { expect, it } from "vitest";
import { withOwnerClient } from "#embedd/database/pool.js";
import { switchModel } from "#embedd/admin/switch-model/switch-model.js";
import type { SwitchEvent } from "#embedd/admin/switch-model/switch.js";
import { watch } from "#embedd/admin/watch.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";

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
