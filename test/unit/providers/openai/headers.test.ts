import { describe, expect, it } from "vitest";
import { durationMs, rateWindow, requestedWaitMs } from "#embedd/providers/openai/headers.js";

describe("headers", () => {
  it.each([
    ["20ms", 20],
    ["1s", 1_000],
    ["6m0s", 360_000],
    ["1h2m3.5s", 3_723_500],
    ["2d", 172_800_000],
    ["12", 12_000],
    ["0.5", 500],
    ["", null],
    ["soon", null],
    ["-1", null],
    ["5 parsecs", null],
  ])("%j is %s ms", (text, ms) => {
    expect(durationMs(text)).toBe(ms);
  });

  it.each([
    [{ "retry-after": "3" }, 3_000],
    [{ "retry-after": "30s" }, 30_000],
    [{ "retry-after": "6m0s" }, 360_000],
    [{ "retry-after": "Thu, 01 Jan 1970 00:01:40 GMT" }, 90_000],
    [{ "retry-after": "Thu, 01 Jan 1970 00:00:01 GMT" }, 0],
    [{ "retry-after": "3", "retry-after-ms": "250" }, 250],
    [{ "retry-after": "Fri, 02 Jan 1970 00:00:10 GMT" }, 86_400_000],
    [{ "retry-after": "soon" }, null],
    [{}, null],
  ])("%j mean a wait of %s ms", (headers, ms) => {
    expect(requestedWaitMs(new Headers(headers as Record<string, string>), 10_000)).toBe(ms);
  });

  it("bound the wait, and know no limit of zero", () => {
    const headers = {
      "x-ratelimit-remaining-tokens": "5",
      "x-ratelimit-limit-tokens": "0",
      "x-ratelimit-reset-tokens": "9000d",
    };
    expect(rateWindow(new Headers(headers), "tokens")).toEqual({
      remaining: 5,
      limit: null,
      resetMs: 600_000,
    });
    expect(requestedWaitMs(new Headers({ "retry-after": "-3" }), 0)).toBe(0);
  });

  it("with only half of a limit are ignored", () => {
    expect(rateWindow(new Headers({ "x-ratelimit-remaining-tokens": "5" }), "tokens")).toBeNull();
    const all = {
      "x-ratelimit-remaining-tokens": "5",
      "x-ratelimit-limit-tokens": "9",
      "x-ratelimit-reset-tokens": "1s",
    };
    expect(rateWindow(new Headers(all), "tokens")).toEqual({ remaining: 5, limit: 9, resetMs: 1_000 });
    expect(rateWindow(new Headers(all), "requests")).toBeNull();
  });
});
