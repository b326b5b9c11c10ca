import { describe, expect, it } from "vitest";
import { createStopStack } from "#embedd/worker/stop-stack.js";

describe("a stack of open resources", () => {
  it("stops them one by one, in reverse order of opening", async () => {
    const stack = createStopStack();
    const events: string[] = [];
    for (const name of ["pool", "presence", "listener"]) {
      stack.push(async () => {
        events.push(`stop ${name}`);
        await Promise.resolve();
        events.push(`stopped ${name}`);
      });
    }
    await stack.stopAll();
    expect(events).toEqual(["listener", "presence", "pool"].flatMap((n) => [`stop ${n}`, `stopped ${n}`]));
  });

  it("stops the rest after a failure, then throws the first one", async () => {
    const stack = createStopStack();
    const stopped: string[] = [];
    stack.push(() => stopped.push("pool"));
    stack.push(() => Promise.reject(new Error("second")));
    stack.push(() => {
      throw new Error("first");
    });
    await expect(stack.stopAll()).rejects.toThrow("first");
    expect(stopped).toEqual(["pool"]);
  });

  it("stops nothing twice", async () => {
    const stack = createStopStack();
    let stops = 0;
    stack.push(() => stops++);
    await stack.stopAll();
    await stack.stopAll();
    expect(stops).toBe(1);
  });
});
