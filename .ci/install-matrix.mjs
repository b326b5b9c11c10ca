// Installs the package in many ways, each into an empty folder, and uses it there: the command, the library and the local
// model; in some cells also the demo. Prints a table and fails if a cell fails. A cell whose package manager or Node is not
// to be had from the registry is skipped. `--sample N` runs N of the cells, others each day.
// Needs `npm ci`, `npm run build` and the registry; the cells of another user need root.
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const { sample } = parseArgs({ options: { sample: { type: "string" } } }).values;
const work = mkdtempSync(join(tmpdir(), "embedd-installs-"));
const tarball = join(work, "pg-embedd.tgz");
const OWN = process.versions.node;
const FLOOR = "20.19.0";
const MINUTES = 60_000;
const OTHER_USER = "nobody";

/** The package managers, and how each adds a tarball. Those without a flag run no scripts of packages by default. */
const MANAGERS = {
  "npm 10": { program: "npm", package: "npm@10", add: ["install", "--ignore-scripts"] },
  "npm 11": { program: "npm", package: "npm@11", add: ["install", "--ignore-scripts"] },
  "pnpm 10": { program: "pnpm", package: "pnpm@10", add: ["add"] },
  "pnpm 12": { program: "pnpm", package: "pnpm@12", add: ["add", "--ignore-scripts"] },
  "Yarn 1": { program: "yarn", package: "yarn@1", add: ["add", "--ignore-scripts"] },
  "Yarn 4": { program: "yarn", package: "@yarnpkg/cli-dist@4", add: ["add"] },
};

/** `how`: local (default), global, link (`npm link` of a folder with the package), pnp (Yarn without node_modules), and `as` the user who runs it. */
const CELLS = [
  { manager: "npm 10", node: FLOOR, folder: "an app with ünïcode" },
  { manager: "npm 11", node: FLOOR, demo: true },
  { manager: "npm 11", node: "22", folder: "an app with ünïcode" },
  { manager: "npm 11", node: "24", how: "global", readOnly: true, as: OTHER_USER },
  { manager: "npm 11", node: "24", demo: true },
  { manager: "npm 11", node: OWN, as: OTHER_USER },
  { manager: "npm 11", node: OWN, how: "link", folder: "a checkout with ünïcode" },
  { manager: "npm 10", node: "22", how: "global" },
  { manager: "pnpm 10", node: OWN, folder: "an app with ünïcode" },
  { manager: "pnpm 12", node: "24" },
  { manager: "Yarn 1", node: OWN, folder: "an app with ünïcode" },
  { manager: "Yarn 4", node: "22", folder: "an app with ünïcode" },
  { manager: "Yarn 4", node: OWN, how: "pnp", embedded: true },
];

/** Neighbours in the list differ little, so a sample takes cells that are far apart. */
function chosenCells() {
  if (sample === undefined) return CELLS;
  const today = Math.floor(Date.now() / 86_400_000);
  const step = Math.floor(CELLS.length / Number(sample));
  return CELLS.filter((_, i) => i % step === today % step).slice(0, Number(sample));
}

class Skip extends Error {}

/** @throws with the program's last lines if it fails */
function run([file, ...args], { cwd, env, as }) {
  const command = as === undefined ? [file, ...args] : ["runuser", "-u", as, "--", file, ...args];
  const options = { cwd, env, encoding: "utf8", timeout: 10 * MINUTES };
  const { status, stdout, stderr, error } = spawnSync(command[0], command.slice(1), options);
  if (error === undefined && status === 0) return stdout;
  const output = `${stdout ?? ""}${stderr ?? ""}${error?.message ?? ""}`.trim().split("\n").slice(-12);
  throw new Error(`${[file, ...args].join(" ")}: exit code ${status}\n${output.join("\n")}`);
}

const registry = run(["npm", "config", "get", "registry"], { cwd: root }).trim();
const SETTINGS = {
  // onnxruntime-node's script uses this proxy, package managers do not: its download of CUDA files is refused.
  GLOBAL_AGENT_HTTPS_PROXY: "http://127.0.0.1:1",
  GLOBAL_AGENT_HTTP_PROXY: "http://127.0.0.1:1",
  npm_config_registry: registry,
  npm_config_prefer_offline: "true",
  npm_config_update_notifier: "false",
  YARN_REGISTRY: registry,
  YARN_NPM_REGISTRY_SERVER: registry,
  YARN_CACHE_FOLDER: join(work, "yarn-cache"),
  YARN_GLOBAL_FOLDER: join(work, "yarn"),
  YARN_ENABLE_TELEMETRY: "false",
  YARN_ENABLE_IMMUTABLE_INSTALLS: "false",
  YARN_NODE_LINKER: "node-modules",
};
const ENVIRONMENT = { ...process.env, ...SETTINGS };

const tools = new Map();

/** @returns the folder with the programs of a package @throws Skip if the registry does not have it */
function programsOf(specifier) {
  const known = tools.get(specifier);
  if (known !== undefined) return known;
  const folder = join(work, "tools", String(tools.size));
  mkdirSync(folder, { recursive: true });
  try {
    run(["npm", "install", "--ignore-scripts", "--prefix", folder, specifier], {
      cwd: folder,
      env: ENVIRONMENT,
    });
  } catch (error) {
    throw new Skip(
      `${specifier} could not be installed: ${error.message.split("\n").slice(1).join(" ").slice(0, 160)}`,
    );
  }
  const programs = join(folder, "node_modules", ".bin");
  tools.set(specifier, programs);
  return programs;
}

const nodeFolder = (version) =>
  version === OWN
    ? dirname(process.execPath)
    : programsOf(`node-${process.platform}-${process.arch}@${version}`);

const LOAD = `
import { createProvider, embedQuery } from "pg-embedd";
const provider = await createProvider({ provider: "local" });
console.log((await embedQuery(provider, "text")).length);
await provider.close();
`;

/** @returns the folder where `pg-embedd` is a program */
function install({ manager: name, how = "local" }, app, options) {
  const manager = MANAGERS[name];
  const program = join(programsOf(manager.package), manager.program);
  if (how === "local" || how === "pnp") {
    run([program, ...manager.add, name === "Yarn 4" ? `pg-embedd@file:${tarball}` : tarball], options);
    return join(app, "node_modules", ".bin");
  }
  const env = { ...options.env, npm_config_prefix: app };
  if (how === "global") {
    run([program, ...manager.add, "--global", tarball], { ...options, env });
  } else {
    const checkout = join(app, "package");
    run(["tar", "-xzf", tarball, "-C", app], options);
    run([program, "install", "--ignore-scripts", "--omit=dev"], { ...options, cwd: checkout });
    run([program, "link", "--ignore-scripts"], { ...options, cwd: checkout, env });
  }
  return join(app, "bin");
}

function check(cell) {
  const { node, folder = "app", how = "local", as, readOnly = false, demo = false, embedded = false } = cell;
  if (as !== undefined && process.getuid?.() !== 0) throw new Skip("changing the user needs root");
  const app = join(mkdtempSync(join(work, "cell-")), folder);
  chmodSync(dirname(app), 0o755);
  mkdirSync(app);
  const env = { ...ENVIRONMENT, PATH: [nodeFolder(node), process.env.PATH].join(delimiter) };
  if (how === "pnp") env.YARN_NODE_LINKER = "pnp";
  const options = { cwd: app, env };
  // A user who may not write where the package is has no HOME either.
  const user = as === undefined ? {} : { as, env: { ...env, HOME: readOnly ? "/nonexistent" : app } };
  if (how === "local" || how === "pnp") {
    writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
    // Without this file Yarn looks for a project above the folder.
    if (cell.manager === "Yarn 4") writeFileSync(join(app, "yarn.lock"), "");
  }
  if (as !== undefined && !readOnly) {
    run(["chown", "-R", as, app], options);
    user.env.npm_config_cache = join(app, "cache");
  }
  const bin = install(cell, app, readOnly ? options : { ...options, ...user });
  if (readOnly) run(["chmod", "-R", "a-w,a+rX", app], options);

  const use = { ...options, ...user };
  // Without node_modules, Yarn starts programs, and tells Node where packages are.
  const [command, nodeCommand] =
    how === "pnp"
      ? ["pg-embedd", "node"].map((name) => [join(programsOf(MANAGERS[cell.manager].package), "yarn"), name])
      : [[join(bin, "pg-embedd")], ["node"]];
  run([...command, "--version"], use);
  // A global package cannot be imported by its name, except from within itself.
  const load = join(
    how === "global" ? globalPackage(app) : how === "link" ? join(app, "package") : app,
    "load.mjs",
  );
  writeFileSync(load, LOAD);
  const dimensions = run([...nodeCommand, load], use).trim();
  if (dimensions !== "384") throw new Error(`the local model gave ${dimensions} components`);
  if (demo) run([...command, "demo"], use);
  if (embedded) run([...command, "run", "--once", "--embedded"], use);
  rmSync(dirname(app), { recursive: true, force: true });
}

const globalPackage = (prefix) => join(prefix, "lib", "node_modules", "pg-embedd");

function describe({ manager, node, how = "local", folder, as, readOnly, demo, embedded }) {
  const notes = [
    ...(folder === undefined ? [] : ["spaces and accents in the path"]),
    ...(readOnly ? ["read-only folder"] : []),
    ...(as === undefined ? [] : [readOnly ? "run by another user" : "installed and run by another user"]),
    ...(demo ? ["demo"] : []),
    ...(embedded ? ["embedded PostgreSQL"] : []),
  ];
  return `| ${manager.padEnd(7)} | ${node.padEnd(7)} | ${how.padEnd(6)} | ${notes.join(", ").padEnd(51)} |`;
}

function pack() {
  run(["npm", "pack", "--ignore-scripts", "--pack-destination", work], { cwd: root, env: ENVIRONMENT });
  const packed = readdirSync(work).find((name) => name.endsWith(".tgz"));
  run(["mv", join(work, packed), tarball], { cwd: work });
}

try {
  chmodSync(work, 0o755);
  pack();
  for (const cell of chosenCells()) {
    const startedAt = Date.now();
    let result = "ok";
    try {
      check(cell);
    } catch (error) {
      result = error instanceof Skip ? `skipped: ${error.message}` : `failed: ${error.message}`;
      if (!(error instanceof Skip)) process.exitCode = 1;
    }
    console.log(`${describe(cell)} ${result} (${Math.round((Date.now() - startedAt) / 1000)} s)`);
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
