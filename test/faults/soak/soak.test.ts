import { expect, it } from "vitest";
import { describeFaults } from "../use-stage.js";
import { judge } from "./figures.js";
import { runSoak } from "./run.js";

const SEED = 20;

it("a soak fails on a figure that grows, and on no other", () => {
  const hour = Array.from({ length: 240 }, (_, i) => i);
  const grown = judge([
    { name: "heap of a0 in MB", values: hour.map((i) => 10 + i / 20) },
    { name: "RSS of a0 in MB", values: hour.map((i) => 70 + (i % 20)) },
    { name: "rows of leases", values: hour.map((i) => i) },
    { name: "rows of pipelines", values: hour.map((i) => 2 + (i % 2)) },
    { name: "listener warnings of a0", values: hour.map((i) => (i < 200 ? 0 : 1)) },
    { name: "a figure without a tolerance", values: [1, 1, 1, 2] },
  ])
    .filter((verdict) => verdict.grown)
    .map(({ name }) => name);
  expect(grown).toEqual([
    "heap of a0 in MB",
    "rows of leases",
    "listener warnings of a0",
    "a figure without a tolerance",
  ]);
});

describeFaults("a short soak", () => {
  it(`switches, refreshes and checks under faults, and measures every figure (seed ${SEED})`, async () => {
    const stop = new AbortController();
    const { faults, switches, refreshes, checks, samples, verdicts } = await runSoak({
      minutes: 0.4,
      seed: SEED,
      keep: false,
      signal: stop.signal,
    });
    expect(Math.min(faults, switches, refreshes)).toBeGreaterThan(0);
    expect(checks).toBe(switches + refreshes);
    expect(samples).toBeGreaterThan(4);
    const measured = verdicts.filter(({ first, last }) => Number.isFinite(first) && Number.isFinite(last));
    expect(measured).toHaveLength(verdicts.length);
    expect(measured.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        "RSS of a0 in MB",
        "heap of b0 in MB",
        "resources of a0",
        "connections embedd worker",
        "workers",
        "rows of leases",
        "rows of failures",
        "rows of vectors",
        "rows of refresh_windows",
        "size of leases in kB",
        "WAL bytes per vector",
      ]),
    );
  }, 600_000);
});
