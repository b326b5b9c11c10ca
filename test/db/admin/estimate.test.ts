import { expect, it, onTestFinished } from "vitest";
import { createProvider } from "#embedd/providers/create-provider.js";
import { loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import { estimateBacklog } from "#embedd/admin/estimate.js";
import { startApiServer } from "../../helpers/api-server.js";
import { itServer, useDatabase } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { paidProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";

const db = useDatabase();
const meter = { reserve: () => Promise.resolve({ settle: () => undefined }) };

async function chunks() {
  const { pipelines } = await loadPipelines(db.pool);
  const found = pipelines.find((p) => p.relation === "embedd.chunks");
  if (found === undefined) throw new Error("embedd.chunks is not watched");
  return found;
}

it("an estimate of the backlog gives tokens, price and time from a sample, and writes nothing", async () => {
  // 1 to 9 words a row, 5 on average.
  await db.query(`insert into embedd.chunks (source, content)
    select 's', trim(repeat('word ', 1 + i % 9)) from generate_series(1, 9000) i`);
  const provider = paidProvider({ usdPerMillionTokens: 2 });
  const sampled = {
    kind: "pending" as const,
    rows: 9_000,
    maxChars: 1_000,
    sampleRows: 900,
    trialRows: 64,
    meter,
  };
  const estimate = await estimateBacklog(db.pool, await chunks(), provider, sampled);
  expect(estimate).toMatchObject({ rows: 9_000, sampledRows: 900 });
  expect(Math.abs(estimate.tokens - 45_000)).toBeLessThan(3 * estimate.tokensMargin);
  expect(estimate.tokensMargin).toBeLessThan(2_000);
  expect(estimate.usd).toBeCloseTo((estimate.tokens * 2) / 1_000_000, 5);
  expect(estimate.seconds).toBeGreaterThan(0);
  // The first alone, to warm up.
  expect(provider.texts).toHaveLength(1 + 64);
  const whole = await estimateBacklog(db.pool, await chunks(), provider, {
    ...sampled,
    sampleRows: 10_000,
    trialRows: 0,
  });
  expect(whole).toMatchObject({ tokens: 45_000, tokensMargin: 0, seconds: null });
  const { rows } = await db.query("select from embedd.chunks where embedding is not null");
  expect(rows).toHaveLength(0);
});

it("embedd estimate prints the estimate, or JSON", async () => {
  const run = (args: string[]) => spawnCli(["estimate", ...args], { env: { DATABASE_URL: db.url } }).exited;
  const { code, stdout } = await run(["--trial", "8"]);
  expect(code).toBe(0);
  expect(stdout).toMatch(
    /embedd\.chunks\.embedding {2}9000 rows with all-MiniLM-L6-v2\n {2}tokens {2}\d+ ± \d+/,
  );
  expect(stdout).toMatch(/time {4}about \d/);
  expect(stdout).toMatch(/price {3}free/);
  const json = JSON.parse((await run(["--json", "--trial", "0"])).stdout) as object[];
  expect(json).toMatchObject([{ relation: "embedd.chunks", rows: 9_000, seconds: null, usd: 0 }]);
  expect(await run(["--table", "nowhere"])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("there is no table nowhere") as string,
  });
});

it("embedd estimate --stale counts the rows that reembed or switch-model would embed", async () => {
  await db.query(`update embedd.chunks set embedding = array_fill(1, array[384])::vector, embedding_model = 'old'
    where id % 3 = 0`);
  const args = ["estimate", "--stale", "--json", "--trial", "0"];
  const { stdout } = await spawnCli(args, { env: { DATABASE_URL: db.url } }).exited;
  expect(JSON.parse(stdout)).toMatchObject([{ relation: "embedd.chunks", rows: 3_000, sampledRows: 500 }]);
});

it("an estimate derives a worker's time with an API from one request", async () => {
  const server = await startApiServer({ latencyMs: 1_000 });
  const options = { provider: "openai", apiKey: "none", baseUrl: server.url, concurrency: 8 } as const;
  const provider = await createProvider(options);
  onTestFinished(async () => {
    await provider.close();
    await server.stop();
  });
  const { seconds } = await estimateBacklog(db.pool, await chunks(), provider, {
    kind: "pending",
    rows: 64_000,
    maxChars: 1_000,
    sampleRows: 64,
    trialRows: 64,
    meter,
  });
  // 1,000 requests of 64, ten at once, a second each. A busy machine makes the one request slower; all of them one
  // after the other would take 1,000 s.
  expect(seconds).toBeGreaterThan(90);
  expect(seconds).toBeLessThan(990);
  expect(server.requests).toHaveLength(2);
});

itServer("embedd estimate --table reads only the table that it names", async () => {
  const names = ["named", "other"];
  for (const name of names) {
    await db.query(`create table ${name} (id int primary key, body text, embedding vector(384), embedding_model text);
      insert into ${name} values (1, 'a text');
      select embedd.watch('${name}', '{body}');
      select pg_stat_force_next_flush()`);
  }
  const scans = async (): Promise<number[]> => {
    const { rows } = await db.query<{ scans: number }>(
      `select (seq_scan + idx_scan)::float8 as scans
       from unnest($1::text[]) with ordinality as name (name, position)
       join pg_stat_user_tables on relname = name
       order by position`,
      [names],
    );
    return rows.map((row) => row.scans);
  };
  const [, otherBefore] = await scans();
  const args = ["estimate", "--table", "named", "--json", "--trial", "0"];
  const { stdout } = await spawnCli(args, { env: { DATABASE_URL: db.url } }).exited;
  expect(JSON.parse(stdout)).toMatchObject([{ relation: "public.named", rows: 1 }]);
  // A session's statistics count once it has ended.
  await waitFor(async () => ((await scans())[0] ?? 0) > 1, { what: "the scans of the named table" });
  expect((await scans())[1]).toBe(otherBefore);
});
