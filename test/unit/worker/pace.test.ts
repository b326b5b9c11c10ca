import { describe, expect, it } from "vitest";
import { learnFrom, newBatchSize, nextBatchRows, nextClaimRows } from "#embedd/worker/pace.js";

describe("the rows of the next claim", () => {
  const next = (rows: number, ms: number, maxRows: number) =>
    nextBatchRows(rows, { rows, ms }, { targetMs: 500, maxRows });
  it("follow the time that the last batch took", () => {
    expect(next(100, 250, 512)).toBe(200);
    expect(next(100, 625, 512)).toBe(80);
  });
  it("change at most by a factor of two, within bounds", () => {
    expect(next(100, 1, 512)).toBe(200);
    expect(next(100, 50_000, 512)).toBe(50);
    expect(next(400, 1, 512)).toBe(512);
    expect(next(20, 50_000, 512)).toBe(16);
    expect(next(20, 50_000, 8)).toBe(8);
  });
});

describe("the size of a batch", () => {
  const limits = { targetMs: 500, maxRows: 512 };

  it("starts small, or at what the provider asks for", () => {
    expect(nextClaimRows(newBatchSize(), 512)).toBe(32);
    expect(nextClaimRows(newBatchSize(2_048), 4_096)).toBe(2_048);
    expect(nextClaimRows(newBatchSize(2_048), 512)).toBe(512);
  });

  it("claims more rows while most of them reuse a cached vector", () => {
    const size = newBatchSize();
    learnFrom(size, { rows: 320, computed: 32, released: 0, embedMs: 500 }, limits);
    expect(size).toMatchObject({ rows: 32, rowsPerComputed: 10 });
    expect(nextClaimRows(size, 512)).toBe(320);
    learnFrom(size, { rows: 320, computed: 0, released: 0, embedMs: 1 }, limits);
    expect(size).toMatchObject({ rows: 32, rowsPerComputed: 16 });
  });

  it("expects no cached vectors after a batch that released rows", () => {
    const size = { ...newBatchSize(), rowsPerComputed: 16 };
    learnFrom(size, { rows: 512, computed: 64, released: 448, embedMs: 1_000 }, limits);
    expect(size).toMatchObject({ rows: 32, rowsPerComputed: 1 });
  });

  it("never falls below the provider's minimum", () => {
    const size = newBatchSize(100);
    learnFrom(size, { rows: 100, computed: 100, released: 0, embedMs: 60_000 }, limits);
    expect(size.rows).toBe(100);
  });
});
