import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createProvider } from "#embedd/providers/create-provider.js";
import type { Provider } from "#embedd/providers/provider.js";
import { createWorker } from "#embedd/worker/worker.js";
import type { Worker } from "#embedd/worker/worker.js";
import { useDatabase } from "../../helpers/database.js";
import { cosine, parseVector } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { WITHOUT_TIMERS } from "../../helpers/worker.js";

const db = useDatabase();
let provider: Provider;
let worker: Worker;

beforeAll(async () => {
  provider = await createProvider({ provider: "local" });
  worker = await createWorker({
    databaseUrl: db.url,
    provider,
    ...WITHOUT_TIMERS,
  });
});

afterAll(async () => {
  await worker.stop();
  await provider.close();
});

interface Row {
  id: string;
  content: string;
  embedding: string | null;
  model: string | null;
}

async function rowsOf(source: string): Promise<Row[]> {
  const { rows } = await db.query<Row>(
    "select id, content, embedding::text, embedding_model as model from embedd.chunks where source = $1 order by id",
    [source],
  );
  return rows;
}

/** Waits until every row of a source has a vector, and checks each against the model's own for its text. */
async function expectRightVectors(source: string, count: number): Promise<Row[]> {
  const rows = await waitFor(
    async () => {
      const found = await rowsOf(source);
      return found.length === count && found.every((row) => row.embedding !== null) ? found : undefined;
    },
    { what: `${count} vectors of ${source}` },
  );
  const expected = await provider.embed(rows.map((row) => row.content));
  rows.forEach((row, i) => {
    expect(cosine(parseVector(row.embedding ?? "[]"), expected[i] ?? [])).toBeGreaterThan(0.99999);
    expect(row.model).toBe("all-MiniLM-L6-v2");
  });
  return rows;
}

const insert = (source: string, ...contents: string[]) =>
  db.query("insert into embedd.chunks (source, content) select $1, unnest($2::text[])", [source, contents]);

describe("a row gets the vector of its text", () => {
  it("after INSERT", async () => {
    await insert("one", "A man is eating food.");
    await expectRightVectors("one", 1);
  });

  it("after an INSERT of many rows", async () => {
    await insert(
      "many",
      ...Array.from({ length: 40 }, (_, i) => `Sentence number ${i}. ${"More words. ".repeat(i)}`),
    );
    await expectRightVectors("many", 40);
  });

  it("after UPDATE of its text, and loses the old vector at once", async () => {
    await insert("edit", "The first text.");
    const [before] = await expectRightVectors("edit", 1);
    const { rows } = await db.query(
      "update embedd.chunks set content = 'Quite another.' where source = 'edit' returning embedding, embedding_model",
    );
    expect(rows).toEqual([{ embedding: null, embedding_model: null }]);
    const [after] = await expectRightVectors("edit", 1);
    expect(after?.embedding).not.toBe(before?.embedding);
  });

  it("and keeps the vector when another column changes", async () => {
    await insert("other", "Unmoved.");
    const [before] = await expectRightVectors("other", 1);
    const { rows } = await db.query(
      "update embedd.chunks set metadata = '{\"a\": 1}' where source = 'other' returning embedding::text",
    );
    expect(rows).toEqual([{ embedding: before?.embedding }]);
  });

  it("again after SET embedding = NULL", async () => {
    await insert("null", "Once more.");
    const [before] = await expectRightVectors("null", 1);
    await db.query("update embedd.chunks set embedding = null where source = 'null'");
    const [after] = await expectRightVectors("null", 1);
    expect(after?.embedding).toBe(before?.embedding);
  });

  it("once its blank text is filled", async () => {
    await insert("blank", " \n\u3000");
    await insert("blank", "not blank");
    await waitFor(async () => (await rowsOf("blank"))[1]?.embedding ?? undefined, {
      what: "the row that is not blank",
    });
    expect((await rowsOf("blank"))[0]).toMatchObject({ embedding: null, model: null });
    const { rows } = await db.query(
      "select blank::int, pending::int from embedd.status where relation = 'embedd.chunks'",
    );
    expect(rows).toEqual([{ blank: 1, pending: 0 }]);
    await db.query(
      "update embedd.chunks set content = 'filled' where source = 'blank' and embedding is null",
    );
    await expectRightVectors("blank", 2);
  });

  it("in any script and length", async () => {
    await insert(
      "scripts",
      "机器学习是人工智能的一个分支。",
      "👩‍👩‍👧‍👦🇩🇪",
      "שלום עולם",
      "x".repeat(1_000_000),
      "\u200b",
      "word ".repeat(200_000),
    );
    await waitFor(async () => (await rowsOf("scripts")).every((r) => r.embedding !== null) || undefined, {
      what: "vectors of all scripts",
    });
    for (const row of await rowsOf("scripts")) {
      expect(Math.hypot(...parseVector(row.embedding ?? "[]"))).toBeCloseTo(1, 4);
    }
  });
});

describe("a worker does not embed", () => {
  it("rows of a transaction that was rolled back", async () => {
    const client = await db.pool.connect();
    await client.query("begin");
    await client.query("insert into embedd.chunks (source, content) values ('undone', 'never was')");
    await client.query("rollback");
    client.release();
    await insert("marker", "after the rollback");
    await expectRightVectors("marker", 1);
    expect(await rowsOf("undone")).toEqual([]);
    expect((await db.query("select count(*)::int as n from embedd.leases")).rows).toEqual([{ n: 0 }]);
  });

  it("rows whose vector the writer sets", async () => {
    const mine = `[${Array.from({ length: 384 }, (_, i) => (i === 0 ? 1 : 0)).join(",")}]`;
    await db.query(
      "insert into embedd.chunks (source, content, embedding, embedding_model) values ('given', 'mine', $1, 'theirs')",
      [mine],
    );
    await insert("marker 2", "after it");
    await expectRightVectors("marker 2", 1);
    expect(await rowsOf("given")).toMatchObject([{ embedding: mine, model: "theirs" }]);
  });
});
