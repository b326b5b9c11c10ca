// Packs the package, installs it into an empty folder as a user would, and uses it there: the demo, the library from
// ESM, CommonJS and TypeScript, publint and attw. Needs `npm ci`, `npm run build` and the registry; no other host.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const work = mkdtempSync(join(tmpdir(), "embedd-package-"));
const app = join(work, "an app with ünïcode");
/** onnxruntime-node's script uses this proxy, npm does not: the download of CUDA files is refused, the registry not. */
const NO_DOWNLOADS = {
  GLOBAL_AGENT_HTTPS_PROXY: "http://127.0.0.1:1",
  GLOBAL_AGENT_HTTP_PROXY: "http://127.0.0.1:1",
};
/** Most of the packages are in npm's cache since `npm ci`. */
const NPM_INSTALL = ["npm", "install", "--prefer-offline"];
const MINUTES = 60_000;

/** Runs a program in the user's folder. @throws with its output if it fails or misses `expected` in its output */
function run(name, [file, ...args], { env = {}, cwd = app, expected = /(?:)/, fails = false } = {}) {
  const startedAt = Date.now();
  const { status, stdout, stderr, error } = spawnSync(file, args, {
    cwd,
    encoding: "utf8",
    timeout: 10 * MINUTES,
    env: { ...process.env, ...NO_DOWNLOADS, ...env },
  });
  const output = `${stdout ?? ""}${stderr ?? ""}`;
  if (error !== undefined || (status === 0) === fails || !expected.test(output)) {
    throw new Error(`${name}: exit code ${status}\n${error?.message ?? ""}${output}`);
  }
  console.log(`ok: ${name} (${Math.round((Date.now() - startedAt) / 1000)} s)`);
  return output;
}

const node = (...args) => [process.execPath, ...args];
const installed = (name) => join(root, "node_modules", name);
const SAMPLE = `
import { createProvider, createWorker, embedQuery, migrate, EmbeddError } from "pg-embedd";
import type { Provider, Worker, WorkerOptions } from "pg-embedd";
import { Pool } from "pg";

export async function start(pool: Pool, databaseUrl: string): Promise<Worker> {
  await migrate(databaseUrl);
  const provider: Provider = await createProvider({ provider: "local" });
  const vector: Float32Array = await embedQuery(provider, "text");
  await pool.query("select $1", [Array.from(vector)]);
  const options: WorkerOptions = { databaseUrl, provider };
  return createWorker(options);
}
export const isOurs = (error: unknown): boolean => error instanceof EmbeddError;
`;

function installAndUse() {
  run("npm pack", ["npm", "pack", "--ignore-scripts", "--pack-destination", work], { cwd: root });
  const tarball = join(
    work,
    readdirSync(work).find((name) => name.endsWith(".tgz")),
  );
  mkdirSync(app);
  writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", private: true }));
  const printed = run("npm install --ignore-scripts", [...NPM_INSTALL, "--ignore-scripts", tarball]);
  if (/warn|error/i.test(printed))
    throw new Error(`npm install --ignore-scripts prints warnings:\n${printed}`);
  // What an installation without the flag runs, on the installed files.
  const rebuild = ["npm", "rebuild", "onnxruntime-node"];
  run("without the flag, npm runs the script that downloads", rebuild, {
    fails: true,
    expected: /onnxruntime-node/,
  });
  run("ONNXRUNTIME_NODE_INSTALL=skip stops that", rebuild, { env: { ONNXRUNTIME_NODE_INSTALL: "skip" } });

  const command = (name) => join(app, "node_modules", ".bin", name);
  run("pg-embedd --version", [command("pg-embedd"), "--version"], { expected: /^\d+\.\d+\.\d+$/m });
  run("embedd demo", [command("embedd"), "demo"], { expected: /rows embedded/ });

  const load = `console.log(typeof library.createWorker, new library.EmbeddError("x", { code: "blank", kind: "row" }).code)`;
  writeFileSync(join(app, "load.mjs"), `import * as library from "pg-embedd";\n${load}\n`);
  writeFileSync(join(app, "load.cjs"), `const library = require("pg-embedd");\n${load}\n`);
  run("import", node("load.mjs"), { expected: /^function blank$/m });
  run("require", node("load.cjs"), { expected: /^function blank$/m });

  writeFileSync(join(app, "sample.mts"), SAMPLE);
  for (const [moduleResolution, module] of [
    ["node16", "node16"],
    ["nodenext", "nodenext"],
    ["bundler", "esnext"],
  ]) {
    const compilerOptions = { module, moduleResolution, target: "es2023", strict: true, skipLibCheck: false };
    const config = join(app, `tsconfig.${moduleResolution}.json`);
    writeFileSync(
      config,
      JSON.stringify({
        compilerOptions: { ...compilerOptions, types: ["node"], noEmit: true },
        files: ["sample.mts"],
      }),
    );
    run(`TypeScript, ${moduleResolution}`, node(installed("typescript/bin/tsc"), "-p", config));
  }

  run("publint", node(installed("publint/src/cli.js"), "run", tarball, "--strict"));
  // The package is ESM only: Node 20.19 and newer load it with require, too.
  const attw = installed("@arethetypeswrong/cli/dist/index.js");
  run("attw", node(attw, tarball, "--profile", "esm-only", "--no-emoji"));
}

try {
  installAndUse();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}
