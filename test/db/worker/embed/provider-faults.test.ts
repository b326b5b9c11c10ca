import { describe, expect, it, onTestFinished } from "vitest";
import { EmbeddError } from "#embedd/errors.js";
import type { Logger } from "#embedd/logger.js";
import { createApiProvider } from "#embedd/providers/openai/index.js";
import type { Provider } from "#embedd/providers/provider.js";
import { readStatus } from "#embedd/admin/status.sql.js";
import { apiError, startApiServer } from "../../../helpers/api-server.js";
import type { Reply } from "../../../helpers/api-server.js";
import { useDatabase } from "../../../helpers/database.js";
import { hashProvider, hashVector } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { expectVectors, watchTable } from "../../../helpers/watched-table.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();

const count = async (sql: string): Promise<number> =>
  (await db.query<{ n: number }>(`select count(*)::int as n from ${sql}`)).rows[0]?.n ?? -1;

const texts = (name: string) =>
  Object.fromEntries(Array.from({ length: 100 }, (_, i) => [String(i + 1), `${name} ${i + 1}`]));

const statusOf = async (pipeline: number) =>
  (await readStatus(db.pool)).find((status) => status.pipeline === pipeline);

describe("a provider's fault", () => {
  it("charges no row, is shown in embedd.status, and does not stop other pipelines", async () => {
    const inner = hashProvider();
    let out = true;
    const provider: Provider = {
      ...inner,
      embed: (texts) =>
        out && texts.some((text) => text.startsWith("big"))
          ? Promise.reject(
              new EmbeddError("503 from the API", {
                kind: "provider",
                code: "unavailable",
                retryAfterMs: 300,
              }),
            )
          : inner.embed(texts),
    };
    await startTestWorker(db, provider);
    const big = await watchTable(db, { relation: "big" });
    await watchTable(db, { relation: "small" });
    await db.query("insert into big select i, 'big ' || i from generate_series(1, 100) i");
    await waitFor(async () => (await statusOf(big))?.waitReason === "503 from the API", {
      what: "the fault in embedd.status",
    });
    await db.query("insert into small select i, 'small ' || i from generate_series(1, 100) i");
    await expectVectors(db, "small", texts("small"));
    expect(await count("big where embedding is not null")).toBe(0);
    expect(await count("embedd.failures")).toBe(0);
    out = false;
    await expectVectors(db, "big", texts("big"));
    await waitFor(async () => (await statusOf(big))?.waitReason === null, {
      what: "the fault to go from embedd.status",
    });
  });

  it("that lasts for thousands of rows is logged at most once a second", async () => {
    const lines: string[] = [];
    const note = (_: object, message: string) => lines.push(message);
    const log: Logger = { debug: () => undefined, info: note, warn: note, error: note };
    const fault = new EmbeddError("down", { kind: "provider", code: "unavailable", retryAfterMs: 1 });
    let calls = 0;
    const down = { ...hashProvider(), embed: () => (calls++, Promise.reject(fault)) };
    await db.query(
      "create table storm (id int primary key, body text, embedding vector(384), embedding_model text)",
    );
    await db.query("select embedd.watch('storm', '{body}')");
    await db.query("insert into storm select i, 'storm ' || i from generate_series(1, 5000) i");
    const worker = await startTestWorker(db, down, { log });
    const started = performance.now();
    await waitFor(() => calls > 50, { what: "50 failed calls" });
    await worker.stop();
    const seconds = (performance.now() - started) / 1_000;
    const failed = lines.filter((line) => line.includes("provider failed")).length;
    expect(failed).toBeGreaterThan(0);
    expect(failed).toBeLessThanOrEqual(Math.ceil(seconds) + 1);
    expect(await count("embedd.failures")).toBe(0);
    await db.query("select embedd.unwatch('storm')");
  });
});

describe("a text that a server can never embed", () => {
  const faults: [string, Reply][] = [
    ["500", apiError(500)],
    ["empty", { change: () => [] }],
    ["cut", { reset: "before" }],
  ];
  it.each(faults)("is charged alone: %s", async (name, reply) => {
    const bad = `${name} 137`;
    const server = await startApiServer({
      dimensions: 384,
      script: ({ texts }) => (texts.includes(bad) ? reply : undefined),
    });
    onTestFinished(() => server.stop());
    const provider = await createApiProvider({ provider: "tei", model: "m", baseUrl: server.url });
    onTestFinished(() => provider.close());
    const relation = `bad_${name.replace("500", "status")}`;
    await startTestWorker(db, provider);
    await watchTable(db, { relation });
    await db.query(`insert into ${relation} select i, '${name} ' || i from generate_series(1, 300) i`);
    await waitFor(async () => (await count(`${relation} where embedding is not null`)) === 299, {
      what: "the neighbors' vectors",
    });
    await waitFor(async () => (await count("embedd.failures")) === 1, { what: "the charge" });
    const { rows } = await db.query<{ key: string; code: string }>("select key, code from embedd.failures");
    expect(rows).toMatchObject([{ code: "failed_input", key: expect.stringContaining("137") as unknown }]);
    await db.query(`insert into ${relation} values (1000, 'a fresh row')`);
    await waitFor(async () => (await count(`${relation} where id = 1000 and embedding is not null`)) === 1, {
      what: "the fresh row's vector",
    });
    await db.query(
      `select embedd.unwatch('${relation}'); drop table ${relation}; delete from embedd.failures`,
    );
  });
});

describe("a wrong answer", () => {
  const good = hashVector("any");
  const answers: [string, (n: number) => Float32Array[], RegExp][] = [
    ["too few vectors", (n) => Array.from({ length: n - 1 }, () => good), /returned 4 vectors for 5 texts/],
    ["too many vectors", (n) => Array.from({ length: n + 1 }, () => good), /returned 6 vectors for 5 texts/],
    ["none at all", () => [], /returned 0 vectors for 5 texts/],
    [
      "other dimensions",
      (n) => Array.from({ length: n }, () => hashVector("any", 383)),
      /383 dimensions instead of 384/,
    ],
  ];
  it.each(answers)("of %s is never written, and status names it", async (name, answer, message) => {
    const wrong = {
      ...hashProvider(),
      embed: (texts: readonly string[]) => Promise.resolve(answer(texts.length)),
    };
    await db.query(
      "insert into embedd.chunks (source, content) select $1, 'text ' || i from generate_series(1, 5) i",
      [name],
    );
    const worker = await startTestWorker(db, wrong);
    await waitFor(
      async () => {
        const status = (await readStatus(db.pool)).find((s) => s.relation === "embedd.chunks");
        return message.test(status?.waitReason ?? "");
      },
      { what: `the answer to be named like ${String(message)}` },
    );
    await worker.stop();
    expect(await count("embedd.chunks where embedding is not null")).toBe(0);
    expect(await count("embedd.failures")).toBe(0);
    await db.query("delete from embedd.chunks");
  });

  it.each([
    ["NaN", NaN, /not finite/],
    ["infinite", Infinity, /not finite/],
    ["all zero", 0, /zeros/],
  ])("with one vector that is %s charges that row and writes the others", async (name, value, message) => {
    const inner = hashProvider();
    const wrong = {
      ...inner,
      embed: async (texts: readonly string[]) =>
        (await inner.embed(texts)).map((vector, i) => (texts[i] === "text 3" ? vector.fill(value) : vector)),
    };
    await db.query(
      "insert into embedd.chunks (source, content) select $1, 'text ' || i from generate_series(1, 5) i",
      [name],
    );
    const worker = await startTestWorker(db, wrong);
    await waitFor(async () => (await count("embedd.failures")) === 1, { what: "the charge" });
    await worker.idle();
    await worker.stop();
    expect((await db.query("select content from embedd.chunks where embedding is null")).rows).toEqual([
      { content: "text 3" },
    ]);
    const { rows } = await db.query<{ code: string; error: string }>(
      "select code, error from embedd.failures",
    );
    expect(rows[0]?.code).toBe("unusable_vector");
    expect(rows[0]?.error).toMatch(message);
    await db.query("delete from embedd.chunks; delete from embedd.failures");
  });
});
