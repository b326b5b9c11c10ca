import pg from "pg";
import { describe, expect, it } from "vitest";
import { isolateFailing, mayBeRows } from "#embedd/database/isolate.js";

function databaseError(code: string): pg.DatabaseError {
  const error = new pg.DatabaseError("failed", 0, "error");
  error.code = code;
  return error;
}

/** Fails where one of `bad` is among the items; counts its calls. */
function worker(bad: ReadonlyMap<number, string>) {
  let calls = 0;
  return {
    calls: () => calls,
    work: (items: readonly number[]): Promise<number[]> => {
      calls++;
      for (const item of items) {
        const code = bad.get(item);
        if (code !== undefined) return Promise.reject(databaseError(code));
      }
      return Promise.resolve([...items]);
    },
  };
}

const items = Array.from({ length: 512 }, (_, i) => i);
const nothing = () => Promise.resolve();

describe("isolating items that make a statement fail", () => {
  it("finds those items, in a bounded number of calls, and returns the results of the others in order", async () => {
    const { work, calls } = worker(
      new Map([
        [3, "XX001"],
        [400, "22021"],
        [511, "P0001"],
      ]),
    );
    const { results, failed } = await isolateFailing(items, work, nothing);
    expect(results).toEqual(items.filter((item) => ![3, 400, 511].includes(item)));
    expect(failed).toMatchObject([
      { item: 3, code: "XX001" },
      { item: 400, code: "22021" },
      { item: 511, code: "P0001" },
    ]);
    expect(calls()).toBeLessThanOrEqual(2 * 3 * 9 + 2);
  });

  it.each(["08006", "40001", "42703", "55P03", "57P01", "53300", "25006", "3F000"])(
    "blames no item for %s",
    async (code) => {
      expect(mayBeRows(databaseError(code))).toBe(false);
      const { work, calls } = worker(new Map([[3, code]]));
      await expect(isolateFailing(items, work, nothing)).rejects.toMatchObject({ code });
      expect(calls()).toBe(1);
    },
  );

  it.each(["53200", "57014", "58030"])("blames an item for %s only if others succeed", async (code) => {
    const one = await isolateFailing(items, worker(new Map([[3, code]])).work, nothing);
    expect(one.failed).toMatchObject([{ item: 3, code }]);
    const all = worker(new Map(items.map((item) => [item, code])));
    await expect(isolateFailing(items.slice(0, 4), all.work, nothing)).rejects.toMatchObject({ code });
    await expect(isolateFailing([3], all.work, nothing)).rejects.toMatchObject({ code });
  });

  it("checks once before it blames anything, and ends if that check fails", async () => {
    let checks = 0;
    const bad = new Map([
      [3, "22003"],
      [4, "22003"],
    ]);
    const isolated = await isolateFailing(items, worker(bad).work, () => {
      checks++;
      return Promise.resolve();
    });
    expect(isolated.failed).toHaveLength(2);
    expect(checks).toBe(1);
    const { work, calls } = worker(bad);
    await expect(
      isolateFailing(items, work, () => Promise.reject(databaseError("22P02"))),
    ).rejects.toMatchObject({ code: "22P02" });
    expect(calls()).toBe(1);
  });

  it("blames items only for the errors that the caller names", async () => {
    const { work, calls } = worker(new Map([[3, "22003"]]));
    await expect(isolateFailing(items, work, nothing, () => false)).rejects.toMatchObject({ code: "22003" });
    expect(calls()).toBe(1);
    const { failed } = await isolateFailing(items, work, nothing, () => true);
    expect(failed).toMatchObject([{ item: 3, code: "22003", error: { code: "22003" } }]);
  });

  it("does nothing without items", async () => {
    const { work, calls } = worker(new Map());
    expect(await isolateFailing([], work, nothing)).toEqual({ results: [], failed: [] });
    expect(calls()).toBe(0);
  });
});
