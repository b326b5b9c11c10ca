import { spawn } from "node:child_process";
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ts from "typescript";
import { createVitest } from "vitest/node";
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

/** How long a test waits for an event that may not come any more. */
const TEST_WAIT_MS = "30000";
/** How long a mutant may keep a test waiting. */
const TEST_TIMEOUT_MS = 60_000;

export type Outcome =
  | { killed: true; by: string }
  | { killed: false; why: "survived" | "no test ran" | "the text is not there once" };

interface Report {
  testResults: { name: string; status: string; assertionResults: { fullName: string; status: string }[] }[];
}

/**
 * A copy of the repository in a temporary folder, where mutations are tried one at a time.
 * @param database whether a mutation's tests need one
 */
export async function createWorkbench(root: string, database: boolean) {
  const folder = await mkdtemp(join(tmpdir(), "embedd-mutations-"));
  for (const name of COPIED)
    await cp(join(root, name), join(folder, name), { recursive: true, preserveTimestamps: true });
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));

  let vitest: ReturnType<typeof openVitest> | undefined;

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
      // The database of the other tests has been migrated.
      if (mutation.file.startsWith("migrations/")) return await runInOwnProcess(folder, mutation);
      vitest ??= openVitest(folder, database);
      const runner = await vitest;
      runner.changed(compiled);
      return await runner.run(mutation);
    } finally {
      await writeFile(compiled, before);
      (await vitest)?.changed(compiled);
    }
  }

  return {
    tryOut,
    async remove(): Promise<void> {
      await (await vitest)?.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
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

/** Vitest as a child process: its own database is migrated with the mutant. */
async function runInOwnProcess(folder: string, { tests, named }: Mutation): Promise<Outcome> {
  const report = join(folder, "report.json");
  await rm(report, { force: true });
  const vitest = join(folder, "node_modules/vitest/vitest.mjs");
  const args = [vitest, "run", "--config", "test/vitest.config.ts", "--bail", "1", "--reporter", "json"];
  const child = spawn(
    process.execPath,
    [...args, "--outputFile", report, ...(named === undefined ? [] : ["-t", named]), ...tests],
    { cwd: folder, stdio: "ignore", env: { ...process.env, TEST_WAIT_MS, TEST_WITHOUT_DATABASE: "" } },
  );
  await new Promise<void>((resolve, reject) => child.once("error", reject).once("exit", () => resolve()));
  const { testResults } = JSON.parse(await readFile(report, "utf8")) as Report;
  const results = testResults.flatMap(({ assertionResults }) => assertionResults);
  return outcomeOf(
    results.map(({ fullName, status }) => ({ name: fullName, status })),
    testResults.find(({ status }) => status === "failed")?.name,
  );
}

/** Vitest in this process, which starts once, with one database to clone. */
async function openVitest(folder: string, database: boolean) {
  process.env["TEST_WITHOUT_DATABASE"] = database ? "" : "yes";
  process.env["TEST_WAIT_MS"] = TEST_WAIT_MS;
  const vitest = await createVitest("test", {
    root: folder,
    config: join(folder, "test/vitest.config.ts"),
    watch: false,
    bail: 1,
    testTimeout: TEST_TIMEOUT_MS,
    reporters: [{}],
  });
  return {
    changed(file: string): void {
      vitest.invalidateFile(file);
    },
    async run({ tests, named }: Mutation): Promise<Outcome> {
      if (named === undefined) vitest.resetGlobalTestNamePattern();
      else vitest.setGlobalTestNamePattern(named);
      const project = vitest.getRootProject();
      const files = tests.map((test) => join(folder, test));
      const run = await vitest.runTestSpecifications(files.map((file) => project.createSpecification(file)));
      // It also returns the modules of earlier runs.
      const testModules = run.testModules.filter(({ moduleId }) => files.includes(moduleId));
      const results = testModules.flatMap((module) => [...module.children.allTests()]);
      return outcomeOf(
        results.map((test) => ({ name: test.fullName, status: test.result().state })),
        testModules.find((module) => !module.ok())?.moduleId,
      );
    },
    close: () => vitest.close(),
  };
}

function outcomeOf(results: { name: string; status: string }[], failedFile?: string): Outcome {
  const failed = results.find(({ status }) => status === "failed")?.name ?? failedFile;
  if (failed !== undefined) return { killed: true, by: failed };
  const ran = results.some(({ status }) => status === "passed");
  return { killed: false, why: ran ? "survived" : "no test ran" };
}
