import { expect, it } from "vitest";
import { runFaults } from "./run.js";
import { describeFaults } from "./use-stage.js";

const SEED = 20;

describeFaults("random faults, many at once, on three workers with writers at work", () => {
  it(`lose no row, leave no old vector and write no row twice (seed ${SEED})`, async () => {
    const summary = await runFaults({ faults: 100, seed: SEED, workers: 3, minutes: 8 });
    expect(summary).toMatchObject({ faults: 100, checks: 1 });
    expect(summary.writes).toBeGreaterThan(100);
  }, 600_000);
});
