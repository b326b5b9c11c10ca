import { describe, expect, it, onTestFinished } from "vitest";
import { EmbeddError } from "#embedd/errors.js";
import type { Provider } from "#embedd/providers/provider.js";
import { findStale } from "#embedd/worker/claim/find-stale.sql.js";
import { loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import { pipelinesOf, startReembedding, stopReembedding } from "#embedd/admin/request-reembed.sql.js";
import { endReembedding } from "#embedd/worker/claim/end-reembedding.sql.js";
import { useDatabase } from "../../helpers/database.js";
import { hashProvider, hashVector } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { startTestWorker } from "../../helpers/worker.js";
import { useStaleTable } from "../../helpers/stale-table.js";

const db = useDatabase();
const stale = useStaleTable(db);
const { staleTable, requestReembed, untilReembedded, models } = stale;

describe("stale rows", () => {
  it("that cannot be embedded are dead after their last attempt, keep their vectors and do not block other rows", async () => {
    await staleTable({ rows: 100 });
    const inner = hashProvider({ model: "b" });
    const picky: Provider = {
      ...inner,
      embed: (texts) =>
        texts.includes("text 33")
          ? Promise.reject(new EmbeddError("input refused", { kind: "row", code: "refused_input" }))
          : inner.embed(texts),
    };
    await startTestWorker(db, picky, { maxAttempts: 3, retryDelayMs: 10 });
    await requestReembed();
    await untilReembedded();
    expect((await db.query("select key, attempts, code, dead, stale from embedd.failures")).rows).toEqual([
      { key: "33", attempts: 3, code: "refused_input", dead: true, stale: true },
    ]);
    expect(await models()).toEqual([
      { model: "a", n: 1 },
      { model: "b", n: 99 },
    ]);
    // A dead row that has a vector hides no pending row. The worker cannot see the new one before the transaction ends.
    const client = await db.pool.connect();
    try {
      await client.query("begin");
      await client.query(`insert into ${stale.table} values (1000, 'waits')`);
      const { rows } = await client.query(
        "select pending::int, dead::int from embedd.status where relation = $1",
        [stale.table],
      );
      expect(rows).toEqual([{ pending: 1, dead: 1 }]);
      await client.query("commit");
    } finally {
      client.release();
    }
    await waitFor(
      async () => (await db.query(`select from ${stale.table} where embedding is null`)).rowCount === 0,
      { what: "the fresh row" },
    );
  });

  it("lose their entries in embedd.failures when the re-embedding is stopped", async () => {
    await staleTable({ rows: 50 });
    const inner = hashProvider({ model: "b" });
    const refusing: Provider = {
      ...inner,
      embed: () => Promise.reject(new EmbeddError("input refused", { kind: "row", code: "refused_input" })),
    };
    await startTestWorker(db, refusing, { retryDelayMs: 50, maxAttempts: 1_000 });
    await requestReembed();
    await waitFor(async () => (await db.query("select from embedd.failures")).rowCount === 50, {
      what: "the failures",
    });
    expect(await stopReembedding(db.pool, await pipelinesOf(db.pool, stale.table))).toHaveLength(1);
    await waitFor(async () => (await db.query("select from embedd.failures")).rowCount === 0, {
      what: "the failures to be forgotten",
    });
    expect(await models()).toEqual([{ model: "a", n: 50 }]);
  });

  it("stay as they are until a re-embedding is requested", async () => {
    await staleTable({ rows: 20 });
    const provider = hashProvider({ model: "b" });
    const worker = await startTestWorker(db, provider);
    await db.query(`insert into ${stale.table} values (1000, 'fresh')`);
    await waitFor(async () => (await models()).length === 2, { what: "the fresh row" });
    await worker.idle();
    expect(provider.texts).toEqual(["fresh"]);
  });

  it("are found by workers of the current model only, and only those can end the re-embedding", async () => {
    await staleTable({ rows: 20 });
    await requestReembed();
    const pipeline = (await loadPipelines(db.pool)).pipelines.find(({ relation }) =>
      relation.endsWith(stale.table),
    );
    if (pipeline === undefined) throw new Error("the table is not watched");
    const search = { limit: 3, cursor: null };
    expect(await findStale(db.pool, pipeline, { ...search, model: "b" })).toMatchObject({ keys: [] });
    expect(await endReembedding(db.pool, pipeline.id, "b")).toBe(false);
    await db.query("update embedd.pipelines set served_model = 'b' where id = $1", [pipeline.id]);
    expect(await findStale(db.pool, pipeline, { ...search, model: "b" })).toEqual({
      keys: [["20"], ["19"], ["18"]],
      cursor: ["18"],
      over: false,
    });
    expect(await findStale(db.pool, pipeline, { ...search, model: "b", cursor: ["3"] })).toEqual({
      keys: [["2"], ["1"]],
      cursor: ["1"],
      over: true,
    });
  });

  it("do not count as done while rows are leased", async () => {
    await staleTable({ rows: 5 });
    const { rows } = await db.query<{ id: number }>(
      "select id from embedd.pipelines where relation = $1::regclass",
      [stale.table],
    );
    const id = rows[0]?.id ?? 0;
    await startReembedding(db.pool, [id]);
    await db.query(
      "insert into embedd.leases (pipeline_id, worker, keys, expires_at) values ($1, 0, '{1}', now() + interval '1 hour')",
      [id],
    );
    onTestFinished(async () => {
      await db.query("delete from embedd.leases where pipeline_id = $1", [id]);
    });
    expect(await endReembedding(db.pool, id, "a")).toBe(false);
    await db.query("delete from embedd.leases where pipeline_id = $1", [id]);
    expect(await endReembedding(db.pool, id, "a")).toBe(true);
  });

  it("with a blank text keep their vector; vectors set by another writer are replaced", async () => {
    await staleTable({ rows: 1 });
    const vector = `[${Array.from(hashVector("theirs")).join(",")}]`;
    await db.query(
      `insert into ${stale.table} values (2, '  ', $1, 'theirs'), (3, 'named', $1, 'theirs'), (4, 'unnamed', $1, null)`,
      [vector],
    );
    await startTestWorker(db, hashProvider({ model: "b" }));
    await requestReembed();
    await untilReembedded();
    expect(
      (await db.query(`select id, embedding_model as model from ${stale.table} order by id`)).rows,
    ).toEqual([
      { id: 1, model: "b" },
      { id: 2, model: "theirs" },
      { id: 3, model: "b" },
      { id: 4, model: "b" },
    ]);
  });
});
