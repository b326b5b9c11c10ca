import { spawn } from "node:child_process";
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ts from "typescript";
import type { Mutation } from "./mutation.js";

/** What the tests need of the repository. */
const COPIED = [
  ".gitignore",
  ".npmrc",
  "CHANGELOG.md",
  "CONTRIBUTING.md",
  "LICENSE",
  "README.md",
  "SECURITY.md",
  "dist",
  "deploy",
  "docker-compose.yml",
  "docs",
  "migrations",
  "package.json",
  "src",
  "test",
  "tsconfig.json",
];

export type Outcome =
  | { killed: true; by: string }
  | { killed: false; why: "survived" | "no test ran" | "the text is not there once" };

interface Report {
  testResults: { name: string; status: string; assertionResults: { fullName: string; status: string }[] }[];
}

/** A copy of the repository in a temporary folder, where mutations are tried one at a time. */
export async function createWorkbench(root: string) {
  const folder = await mkdtemp(join(tmpdir(), "embedd-mutations-"));
  for (const name of COPIED)
    await cp(join(root, name), join(folder, name), { recursive: true, preserveTimestamps: true });
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));

  async function tryOut(mutation: Mutation): Promise<Outcome> {
    const source = join(folder, mutation.file);
    const original = await readFile(source, "utf8");
    if (original.split(mutation.find).length !== 2)
      return { killed: false, why: "the text is not there once" };
    const mutant = original.replace(mutation.find, () => mutation.replace);
    const compiled = join(folder, mutation.file.replace(/^src\//, "dist/").replace(/\.ts$/, ".js"));
    const before = await readFile(compiled, "utf8");
    try {
      await writeFile(compiled, mutation.file.endsWith(".sql") ? withoutHash(mutant) : compile(mutant));
      return await runTests(folder, mutation);
    } finally {
      await writeFile(compiled, before);
    }
  }

  return { tryOut, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** A migration may differ from its hash if it says so. */
const withoutHash = (migration: string): string =>
  migration.replace(/^--! Hash: .*$/m, "$&\n--! AllowInvalidHash");

const compile = (source: string): string =>
  ts.transpileModule(source, {
    compilerOptions: {
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.ESNext,
      verbatimModuleSyntax: true,
    },
  }).outputText;

async function runTests(folder: string, { tests, named }: Mutation): Promise<Outcome> {
  const report = join(folder, "report.json");
  await rm(report, { force: true });
  const vitest = join(folder, "node_modules/vitest/vitest.mjs");
  const args = [vitest, "run", "--config", "test/vitest.config.ts", "--bail", "1", "--reporter", "json"];
  const child = spawn(
    process.execPath,
    [...args, "--outputFile", report, ...(named === undefined ? [] : ["-t", named]), ...tests],
    { cwd: folder, stdio: "ignore", env: { ...process.env, TEST_WAIT_MS: "30000" } },
  );
  await new Promise<void>((resolve, reject) => child.once("error", reject).once("exit", () => resolve()));
  const { testResults } = JSON.parse(await readFile(report, "utf8")) as Report;
  const results = testResults.flatMap(({ assertionResults }) => assertionResults);
  const failed = results.find(({ status }) => status === "failed")?.fullName;
  const failedFile = testResults.find(({ status }) => status === "failed")?.name;
  if (failed !== undefined || failedFile !== undefined)
    return { killed: true, by: failed ?? failedFile ?? "" };
  return {
    killed: false,
    why: results.some(({ status }) => status === "passed") ? "survived" : "no test ran",
  };
}
