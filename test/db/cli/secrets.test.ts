import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { KEY, spawnWithApi, startScriptedApi, createWatchedDocs } from "../../helpers/api-cli.js";
import { apiError } from "../../helpers/api-server.js";
import type { ApiServerOptions } from "../../helpers/api-server.js";
import { useDatabase } from "../../helpers/database.js";
import type { Database } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { waitFor } from "../../helpers/wait.js";

const db = useDatabase();

describe("a key and a password", () => {
  /** Everything that embedd wrote into the database. */
  async function dump({ query }: Database): Promise<string> {
    const { rows } = await query<{ name: string }>(
      "select c.oid::regclass::text as name from pg_class c where c.relnamespace = 'embedd'::regnamespace and c.relkind in ('r', 'v')",
    );
    const parts = ["docs", ...rows.map((row) => row.name)].map(async (name) =>
      JSON.stringify((await query(`select t::text from ${name} t`)).rows),
    );
    return (await Promise.all(parts)).join("\n");
  }

  const PASSWORD = "pw-57721566490153286";
  const texts: [string, ApiServerOptions, Record<string, string>][] = [
    ["everything works", {}, {}],
    ["the key is refused", { key: () => "another" }, {}],
    ["the key is from a file", { key: () => KEY }, { OPENAI_API_KEY: "" }],
    [
      "the server repeats the key with 403",
      { script: ({ headers }) => apiError(403, { message: String(headers.authorization), code: KEY }) },
      {},
    ],
    [
      "the server repeats the key with 400",
      { script: () => apiError(400, { message: KEY, param: KEY }) },
      {},
    ],
    ["the server repeats the key in HTML", { script: () => ({ status: 200, body: `<p>${KEY}` }) }, {}],
    ["the connection breaks", { script: () => ({ reset: "middle" }) }, {}],
    ["the server is down", {}, { EMBEDD_BASE_URL: "http://127.0.0.1:1/v1" }],
    ["a quota is used up", { script: () => apiError(429, { code: "insufficient_quota", message: KEY }) }, {}],
    ["settings are wrong", {}, { EMBEDD_LEASE_MS: "x", EMBEDD_HEADERS: `{"x-key": "${KEY}"` }],
    ["OpenAI's SDK is told to log", {}, { OPENAI_LOG: "debug" }],
  ];

  it.each(texts)("are shown nowhere when %s", async (_, options, env) => {
    const folder = await mkdtemp(join(tmpdir(), "embedd-key-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    await writeFile(join(folder, "key"), KEY);
    const server = await startScriptedApi(options);
    const docs = await createWatchedDocs(db, 3);
    await docs.query("update docs set body = 'a most private text ' || id");
    const url = new URL(docs.url);
    url.password = PASSWORD;
    const all = {
      EMBEDD_HEADERS: `{"x-second-key": "${KEY}"}`,
      ...(env["OPENAI_API_KEY"] === "" && { EMBEDD_API_KEY_FILE: join(folder, "key") }),
      ...env,
    };
    const database = ["--database-url", url.toString()];
    const worker = spawnWithApi(docs, server, [...database, "run"], all);
    await waitFor(
      async () =>
        worker.child.exitCode !== null ||
        (await docs.query("select from docs where embedding is not null")).rowCount === 3 ||
        /"msg":"the provider failed/.test(worker.stderr),
      { what: "an outcome" },
    );
    const others = await Promise.all(
      (Object.keys(env).length === 0 ? [["status", "--json"], ["doctor"]] : []).map(
        (args) => spawnWithApi(docs, server, [...database, ...args], all).exited,
      ),
    );
    const stored = await dump(docs);
    worker.child.kill("SIGTERM");
    const ended = await worker.exited;
    for (const shown of [stored, ...[ended, ...others].flatMap((o) => [o.stdout, o.stderr])]) {
      expect(shown).not.toContain(KEY);
      expect(shown).not.toContain(PASSWORD);
    }
    expect(ended.stderr, "no text in the log").not.toContain("a most private text");
  });

  it.runIf(process.platform === "linux")("are hidden from ps [needs Linux: /proc]", async () => {
    const docs = await createWatchedDocs(db, 1);
    const url = new URL(docs.url);
    url.password = PASSWORD;
    const worker = spawnWithApi(docs, await startScriptedApi(), ["--database-url", url.toString(), "run"]);
    await waitFor(() => worker.stderr.includes('"ready"'), { what: "the worker" });
    const cmdline = await readFile(`/proc/${worker.child.pid ?? 0}/cmdline`, "utf8");
    expect(cmdline).toMatch(/^embedd run\0*$/);
    worker.child.kill("SIGTERM");
    expect(await worker.exited).toMatchObject({ code: 0 });
  });

  it("are not shown when the database is unreachable", async () => {
    const { stderr, code } = await spawnCli(["status"], {
      env: { DATABASE_URL: `postgres://me:${PASSWORD}@127.0.0.1:1/none` },
    }).exited;
    expect(code).toBe(4);
    expect(stderr).not.toContain(PASSWORD);
  });

  it("are accepted by no flag", async () => {
    const { stdout } = await spawnCli(["run", "--help"]).exited;
    expect(stdout).not.toMatch(/--\S*(key|token\b|password|secret)/i);
  });
});
