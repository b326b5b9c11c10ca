import { describe, expect, it } from "vitest";
import { spawnWithApi, startScriptedApi, createWatchedDocs } from "../../helpers/api-cli.js";
import { apiError, seededRandom } from "../../helpers/api-server.js";
import type { Reply } from "../../helpers/api-server.js";
import { useDatabase } from "../../helpers/database.js";
import type { Database } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { cosine, hashVector, parseVector } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";

const db = useDatabase();
const MODEL = "text-embedding-3-small";

async function expectEmbedded({ query }: Database, dimensions = 384): Promise<void> {
  const { rows } = await query<{ body: string; embedding: string; embedding_model: string }>("table docs");
  for (const { body, embedding, embedding_model } of rows) {
    expect(embedding_model).toBe(MODEL);
    expect(cosine(parseVector(embedding), hashVector(body, dimensions)), body).toBeGreaterThan(0.9999);
  }
}

describe("embedd with the openai provider", () => {
  it("embeds a vector(384) column, searches it, and passes doctor", async () => {
    const server = await startScriptedApi();
    const docs = await createWatchedDocs(db, 700);
    const once = await spawnWithApi(docs, server, ["run", "--once"]).exited;
    expect(once, once.stderr).toMatchObject({ code: 0 });
    expect(once.stdout).toMatch(/^700 rows in /);
    await expectEmbedded(docs);
    expect(server.requests.every((r) => r.dimensions === 384 && r.model === MODEL)).toBe(true);
    expect(server.requests.length, "full batches").toBeLessThanOrEqual(2);
    const search = await spawnWithApi(docs, server, ["search", "text 42", "--table", "docs", "--limit", "1"])
      .exited;
    expect(search.stdout).toMatch(/\btext 42$/m);
    const doctor = await spawnWithApi(docs, server, ["doctor"]).exited;
    expect(doctor.stdout).toContain(
      "ok    model text-embedding-3-small: openai accepted the key and address",
    );
    expect(doctor.stdout).not.toMatch(/^FAIL .*docs/m);
  });

  it("loses no row when 1 in 5 requests fails at random", async () => {
    const random = seededRandom(7);
    const server = await startScriptedApi({
      script: (): Reply | undefined => {
        const draw = random();
        if (draw < 0.05) return { reset: "middle" };
        if (draw < 0.1) return { status: 502, body: "<html>", headers: { "content-type": "text/html" } };
        if (draw < 0.15) return apiError(500);
        if (draw < 0.2) return { change: (items) => items.slice(1) };
        return undefined;
      },
    });
    const docs = await createWatchedDocs(db, 1_000);
    const env = { EMBEDD_REQUEST_INPUTS: "10" };
    const { code, stderr } = await spawnWithApi(docs, server, ["run", "--once"], env).exited;
    expect(code, stderr).toBe(0);
    await expectEmbedded(docs);
    const { rowCount } = await docs.query("select from embedd.failures");
    expect(rowCount).toBe(0);
    expect(server.requests.length / 100).toBeLessThanOrEqual(1.35);
  });

  it("waits for a server that is down and has to be asked for the model's dimensions", async () => {
    const server = await startScriptedApi({
      dimensions: 384,
      script: ({ number }) => (number < 12 ? apiError(500) : undefined),
    });
    const docs = await createWatchedDocs(db, 3);
    const env = { EMBEDD_PROVIDER: "tei", EMBEDD_MODEL: "their-model" };
    const worker = spawnWithApi(docs, server, ["run"], env);
    await waitFor(
      async () => (await docs.query("select from docs where embedding is not null")).rowCount === 3,
      { what: "the rows" },
    );
    expect(worker.stderr).toMatch(/answered 500.*the provider failed, trying again/);
    worker.child.kill("SIGTERM");
    expect(await worker.exited).toMatchObject({ code: 0 });
  });

  it("cuts texts at the model's limit and counts them", async () => {
    const server = await startScriptedApi();
    const docs = await createWatchedDocs(db, 3);
    await docs.query("update docs set body = id || repeat(' a word', 9000) where id < 2");
    expect(await spawnWithApi(docs, server, ["run", "--once"]).exited).toMatchObject({ code: 0 });
    const { stdout } = await spawnWithApi(docs, server, ["status"]).exited;
    expect(stdout).toMatch(
      /today {5}\d requests?, \d+ tokens, about \$0\.\d+, 2 texts cut at the model's limit/,
    );
  });

  it("charges only the row that the server refuses", async () => {
    const server = await startScriptedApi({
      script: ({ texts }) => (texts.includes("text 77") ? apiError(400) : undefined),
    });
    const docs = await createWatchedDocs(db, 200);
    const { code, stderr } = await spawnWithApi(docs, server, ["run", "--once"], { EMBEDD_MAX_ATTEMPTS: "1" })
      .exited;
    expect(code, stderr).toBe(3);
    const { rows } = await docs.query("select key, dead, code from embedd.failures");
    expect(rows).toEqual([{ key: "77", dead: true, code: "refused_input" }]);
    const left = await docs.query("select id from docs where embedding is null");
    expect(left.rows).toEqual([{ id: 77 }]);
  });

  it("refuses a column that the model cannot fill, and says how to fix it", async () => {
    const server = await startScriptedApi();
    const docs = await createWatchedDocs(db, 1, "vector(2000)");
    for (const args of [["run", "--once"], ["doctor"]]) {
      const { stdout, stderr } = await spawnWithApi(docs, server, args).exited;
      expect(stdout + stderr).toMatch(
        /column embedding of (public\.)?docs is vector\(2000\), but text-embedding-3-small makes 1536 dimensions/,
      );
      expect(stdout + stderr).toMatch(
        /try: embedd unwatch \S*docs --embedding embedding && embedd watch \S*docs .*--dimensions 1536\n/,
      );
    }
  });

  it("names the variable for a missing key, and where to get a key", async () => {
    const docs = await createWatchedDocs(db, 1);
    for (const [provider, variable] of [
      ["openai", "OPENAI_API_KEY"],
      ["github", "GITHUB_TOKEN"],
    ] as const) {
      const { code, stderr } = await spawnCli(["run"], {
        env: { DATABASE_URL: docs.url, EMBEDD_PROVIDER: provider, [variable]: "" },
      }).exited;
      expect(code).toBe(2);
      expect(stderr).toContain(variable);
      expect(stderr).toMatch(/try: read -rs \w+ && export \w+\n/);
    }
  });

  it("waits for a quota without further requests, and status shows it", async () => {
    const server = await startScriptedApi({
      script: () => apiError(429, {}, { "retry-after": "24367", "x-ratelimit-type": "UserByModelByDay" }),
    });
    const docs = await createWatchedDocs(db, 3);
    const worker = spawnWithApi(docs, server, ["run"]);
    await waitFor(
      async () =>
        (
          await docs.query(
            "select from embedd.status where wait_reason like '%quota%' and wait_until > now() + interval '6 hours'",
          )
        ).rowCount === 1,
      { what: "the status to say it" },
    );
    expect(server.requests).toHaveLength(1);
    worker.child.kill("SIGTERM");
    expect(await worker.exited).toMatchObject({ code: 0 });
  });
});
