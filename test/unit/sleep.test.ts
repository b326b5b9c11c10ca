import { getEventListeners } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { withAnyOf } from "#embedd/sleep.js";

const src = fileURLToPath(new URL("../../src", import.meta.url));

describe("work with a signal that follows others", () => {
  it("is aborted with the reason of the first of them", async () => {
    const [first, second] = [new AbortController(), new AbortController()];
    const reason = await withAnyOf([first.signal, second.signal], (signal) => {
      second.abort("second");
      first.abort("first");
      return Promise.resolve(signal.reason as unknown);
    });
    expect(reason).toBe("second");
    const begun = await withAnyOf([first.signal], (signal) => Promise.resolve(signal.reason as unknown));
    expect(begun).toBe("first");
  });

  it("leaves nothing behind on them, even if it fails", async () => {
    const { signal: source } = new AbortController();
    let during = 0;
    await withAnyOf([source], () => {
      during = getEventListeners(source, "abort").length;
      return Promise.resolve();
    });
    expect(during).toBe(1);
    await expect(withAnyOf([source], () => Promise.reject(new Error("failed")))).rejects.toThrow("failed");
    expect(getEventListeners(source, "abort")).toEqual([]);
  });

  it("replaces AbortSignal.any wherever a call repeats, because that leaves an entry per call", () => {
    const users = readdirSync(src, { recursive: true, encoding: "utf8" })
      .filter((path) => path.endsWith(".ts"))
      .filter((path) => /AbortSignal\.any\(/.test(readFileSync(join(src, path), "utf8")));
    // Twice per process, and once per pipeline that a worker begins to serve.
    expect(users).toEqual([join("cli", "run.ts"), join("worker", "pipeline-runner.ts")]);
  });
});
