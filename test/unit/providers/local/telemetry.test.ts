import { execFile } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { temporaryFolder } from "../../../helpers/programs.js";

const application = fileURLToPath(new URL("../../../helpers/inference-in-worker.mjs", import.meta.url));
const inMainThread = `
  import { createLocalProvider } from "#embedd/providers/local/index.js";
  const provider = await createLocalProvider();
  console.log((await provider.embed(["a text"])).length + " vectors");
  await provider.close();
`;

describe("ONNX Runtime's telemetry", () => {
  // Its uploader creates a device identifier and a queue of events below HOME before it sends anything.
  it.each([
    ["the main thread", ["--input-type=module", "--eval", inMainThread]],
    ["an application's worker thread", [application, "close"]],
  ])("is off in %s", async (_where, args) => {
    const home = await temporaryFolder();
    // Nothing of this environment: in CI, ONNX Runtime turns it off itself.
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      env: { PATH: process.env["PATH"], HOME: home },
    });
    expect(stdout).toMatch(/^\d+ vectors$/m);
    expect(await readdir(home)).toEqual([]);
  });

  it("leaves no message if HOME cannot be written", async () => {
    const home = join(fileURLToPath(import.meta.url), "not-a-folder");
    const { stderr } = await promisify(execFile)(
      process.execPath,
      ["--input-type=module", "--eval", inMainThread],
      { env: { PATH: process.env["PATH"], HOME: home } },
    );
    expect(stderr).toBe("");
  });
});
