import { describe, expect, it } from "vitest";
import { nextBatchRows } from "#embedd/worker/pace.js";

describe("the size of the next claim", () => {
  const next = (rows: number, ms: number, maxRows: number) =>
    nextBatchRows(rows, { rows, ms }, { targetMs: 500, maxRows });
  it("follows the time that the last batch took", () => {
    expect(next(100, 250, 512)).toBe(200);
    expect(next(100, 625, 512)).toBe(80);
  });
  it("changes at most by a factor of two, within bounds", () => {
    expect(next(100, 1, 512)).toBe(200);
    expect(next(100, 50_000, 512)).toBe(50);
    expect(next(400, 1, 512)).toBe(512);
    expect(next(20, 50_000, 512)).toBe(16);
    expect(next(20, 50_000, 8)).toBe(8);
  });
});
