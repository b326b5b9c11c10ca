import { expect, it } from "vitest";
import { abortSwitch } from "#embedd/admin/switch-model/abort.js";
import { switchModel } from "#embedd/admin/switch-model/switch-model.js";
import type { SwitchEvent, SwitchOptions, SwitchResult } from "#embedd/admin/switch-model/switch.js";
import { withOwnerClient } from "#embedd/database/pool.js";
import { watch } from "#embedd/admin/watch.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import {
  catalogOf,
  expectModel,
  namedProvider,
  startSearcher,
  startWriter,
} from "../../../helpers/switch-model.js";
import { waitFor } from "../../../helpers/wait.js";
import { createRole } from "../../../helpers/watched-table.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();

async function createDocs(relation: string, rows: number, more = ""): Promise<void> {
  await db.query(
    `create table ${relation} (id int primary key, body text, embedding vector(16), embedding_model text); ${more}`,
  );
  await db.query(`insert into ${relation} select i, 'text ' || i from generate_series(1, ${rows}) i`);
  await withOwnerClient(db.url, (client) =>
    watch(client, { relation, content: ["body"], embedding: "embedding" }),
  );
}

const switchTo = (
  relation: string,
  options: Partial<SwitchOptions> = {},
  onEvent?: (event: SwitchEvent) => void,
): Promise<SwitchResult> =>
  withOwnerClient(db.url, (client) =>
    switchModel(
      client,
      { relation, embedding: "embedding", model: "new", dimensions: 8, pollMs: 50, ...options },
      onEvent,
    ),
  );

describeServer("switch-model", () => {
  it("moves a table to another model while an application writes and searches", async () => {
    await createDocs("docs", 2_000);
    const old = await startTestWorker(db, namedProvider("old", 16));
    await expectModel(db, "docs", "old", 16);
    await db.query(
      "create index own on docs using hnsw (embedding vector_cosine_ops) with (m = 8, ef_construction = 32)",
    );
    const [searcher, writer] = [startSearcher(db.url, "docs"), startWriter(db.url, "docs")];
    const next = await startTestWorker(db, namedProvider("new", 8));
    const { lockedMs, previous } = await switchTo("docs");
    expect(await expectGoesOn()).toEqual(["old", "new"]);
    expect(previous).toEqual(["embedding_previous", "embedding_model_previous"]);
    expect(lockedMs).toBeLessThan(5_000);
    await expectModel(db, "docs", "new", 8);
    const { rows } = await db.query(
      "select indexname, indexdef from pg_indexes where tablename = 'docs' and indexdef like '%hnsw%' order by 1",
    );
    expect(rows).toEqual([
      {
        indexname: "own",
        indexdef:
          "CREATE INDEX own ON public.docs USING hnsw (embedding vector_cosine_ops) WITH (m='8', ef_construction='32')",
      },
      {
        indexname: "own_previous",
        indexdef: expect.stringContaining("(embedding_previous vector_cosine_ops)") as string,
      },
    ]);
    expect(
      (
        await db.query(
          "select model, served_model, embedding_column, shadow_of from embedd.pipelines where relation = 'docs'::regclass",
        )
      ).rows,
    ).toEqual([{ model: null, served_model: "new", embedding_column: "embedding", shadow_of: null }]);
    await Promise.all([old.stop(), next.stop()]);

    async function expectGoesOn(): Promise<string[]> {
      // The new model's worker keeps up with what is written after the swap.
      await db.query("insert into docs values (0, 'after the swap')");
      const [searches, writes] = [searcher.result().searches, writer.result()];
      await waitFor(() => searcher.result().searches >= searches + 20 && writer.result() >= writes + 20, {
        what: "20 more searches and writes",
      });
      await writer.stop();
      return (await searcher.stop()).models;
    }
  });

  it("restores everything when it is aborted", async () => {
    const { role } = await createRole(db);
    await createDocs(
      "aborted",
      50,
      `grant select (embedding, id) on aborted to ${role};
       create index halves on aborted using hnsw ((embedding::halfvec(16)) halfvec_l2_ops)`,
    );
    const worker = await startTestWorker(db, namedProvider("old", 16));
    await expectModel(db, "aborted", "old", 16);
    const before = await catalogOf(db);
    const stopping = new AbortController();
    const run = switchTo("aborted", { signal: stopping.signal }, ({ step }) => {
      if (step === "fill") stopping.abort();
    });
    await expect(run).rejects.toThrow("abort");
    expect(await catalogOf(db)).toContain("embedding_next");
    await withOwnerClient(db.url, (client) =>
      abortSwitch(client, { relation: "aborted", embedding: "embedding" }),
    );
    expect(await catalogOf(db)).toBe(before);
    await worker.stop();
  });
});
