import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { afterAll, beforeAll, expect, it } from "vitest";
import webpack from "webpack";
import { startApiServer } from "../helpers/api-server.js";
import type { ApiServer } from "../helpers/api-server.js";
import { useDatabase } from "../helpers/database.js";
import { runProgram, temporaryFolder } from "../helpers/programs.js";

const db = useDatabase();
const library = fileURLToPath(new URL("../../dist/index.js", import.meta.url));
let api: ApiServer;

beforeAll(async () => {
  api = await startApiServer();
});
afterAll(() => api.stop());

/** What an application does with an API provider, and what it cannot do in a bundle. */
const PROGRAM = `
import { createProvider, createWorker, embedQuery, migrate } from ${JSON.stringify(library)};
async function main() {
  const code = (error) => error.code;
  const local = await createProvider({ provider: "local" }).then(async (provider) => {
    await provider.close();
    return provider.model;
  }, code);
  const migrated = await migrate(process.env.DATABASE_URL).then(() => "migrated", code);
  const provider = await createProvider({ provider: "openai", baseUrl: process.env.API_URL, apiKey: "key" });
  const worker = await createWorker({ databaseUrl: process.env.DATABASE_URL, provider });
  await worker.stop();
  const vector = await embedQuery(provider, "a query");
  await provider.close();
  console.log(JSON.stringify({ local, migrated, dimensions: vector.length }));
}
void main();
`;

async function runBundle(path: string): Promise<unknown> {
  const stdout = await runProgram(process.execPath, [path], {
    env: { DATABASE_URL: db.url, API_URL: api.url },
  });
  return JSON.parse(stdout.toString());
}

/** What every bundle of another bundler's CommonJS packages needs, as pg is one. */
const REQUIRE =
  'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);';

it.each([
  { format: "esm", file: "app.mjs", banner: REQUIRE },
  { format: "cjs", file: "app.cjs", banner: "" },
] as const)("esbuild, $format: an API provider works, the rest says why not", async (output) => {
  const folder = await temporaryFolder();
  await writeFile(join(folder, "program.mjs"), PROGRAM);
  const { errors } = await build({
    entryPoints: [join(folder, "program.mjs")],
    outfile: join(folder, output.file),
    bundle: true,
    platform: "node",
    format: output.format,
    banner: { js: output.banner },
    logLevel: "silent",
  });
  expect(errors).toEqual([]);
  expect(await runBundle(join(folder, output.file))).toEqual({
    local: "bundled",
    migrated: "bundled",
    dimensions: 1536,
  });
});

it("webpack: an API provider works; the rest loads from the package where it was built", async () => {
  const folder = await temporaryFolder();
  await writeFile(join(folder, "program.mjs"), PROGRAM);
  const errors = await new Promise((resolve, reject) => {
    webpack(
      {
        mode: "production",
        optimization: { minimize: false },
        devtool: false,
        target: "node20",
        context: folder,
        entry: "./program.mjs",
        output: { path: folder, filename: "app.cjs" },
      },
      (error, stats) => {
        if (error) reject(error);
        else resolve(stats?.toJson({ all: false, errors: true }).errors);
      },
    );
  });
  expect(errors).toEqual([]);
  expect(await runBundle(join(folder, "app.cjs"))).toEqual({
    local: "all-MiniLM-L6-v2",
    migrated: "migrated",
    dimensions: 1536,
  });
});
