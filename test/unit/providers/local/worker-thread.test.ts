import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const application = fileURLToPath(new URL("../../../helpers/inference-in-worker.mjs", import.meta.url));

/** Rejects if the application was aborted or exited with another code than 0. */
const run = async (how: string): Promise<string> =>
  (await promisify(execFile)(process.execPath, [application, how])).stdout;

describe("in an application's worker thread, inference", () => {
  // Without care, ONNX Runtime's binding aborts the process (SIGABRT).
  it.each(["exit", "exit", "terminate", "terminate", "throw"])("survives %s", async (how) => {
    const ends = { exit: "", terminate: "ended\n", throw: "error: of the application\nended\n" };
    expect(await run(how)).toBe(ends[how as keyof typeof ends]);
  });

  it("gives vectors, and ends with its provider", async () => {
    expect(await run("close")).toBe("32 vectors\nended\n");
  });
});
