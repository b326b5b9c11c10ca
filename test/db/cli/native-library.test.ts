import { expect, it } from "vitest";
import { spawnCli } from "../../helpers/cli.js";
import type { CliExit } from "../../helpers/cli.js";
import { useDatabase } from "../../helpers/database.js";
import { damaged, INFERENCE_BINDING } from "../../helpers/installation.js";

const db = useDatabase();

/** Runs a command of an installation whose inference library is damaged. */
async function withDamage(command: string): Promise<CliExit> {
  const { main, directory } = await damaged(INFERENCE_BINDING, "no library");
  return spawnCli([command], { main, cwd: directory, env: { DATABASE_URL: db.url } }).exited;
}

it("run stops with the loader's words", async () => {
  const { code, stderr } = await withDamage("run");
  expect(code).toBe(2);
  expect(stderr).toMatch(
    /^embedd: cannot load the native library of onnxruntime-node: .*onnxruntime_binding\.node: .+\n {2}it needs Linux with glibc .*; this is .+\n {2}try: npm ci$/m,
  );
});

it("doctor fails, and checks the rest", async () => {
  const { code, stdout } = await withDamage("doctor");
  expect(code).toBe(3);
  expect(stdout).toMatch(/^FAIL {2}model: cannot load the native library of onnxruntime-node: /m);
  expect(stdout).toMatch(/^ok .*PostgreSQL/m);
});
