import { Presets, SingleBar } from "cli-progress";
import type { Pool } from "pg";
import { countPending } from "../admin/status.sql.js";

export interface BacklogProgress {
  add(rows: number): void;
  rows(): number;
  /** From the start to the last row, in milliseconds. */
  ms(): number;
  stop(): void;
}

/** A bar over what is pending now; rows that arrive meanwhile lengthen it. */
export async function backlogProgress(pool: Pool, model: string): Promise<BacklogProgress> {
  let total = await countPending(pool, model);
  const bar = createBar("embedding");
  const started = performance.now();
  let last = started;
  let done = 0;
  bar.start(total, 0, { rate: "-" });
  return {
    add(rows) {
      done += rows;
      last = performance.now();
      if (done > total) {
        total = done;
        bar.setTotal(total);
      }
      bar.update(done, { rate: (done / ((last - started) / 1000)).toFixed(0) });
    },
    rows: () => done,
    ms: () => last - started,
    stop() {
      bar.stop();
    },
  };
}

function createBar(what: string): SingleBar {
  return new SingleBar(
    {
      format: `${what} {bar} {percentage}% | {value}/{total} rows | {rate} rows/s | {eta_formatted} left`,
      etaBuffer: 100,
      // Without a terminal: a line every two seconds.
      noTTYOutput: true,
      notTTYSchedule: 2_000,
      hideCursor: true,
    },
    Presets.shades_classic,
  );
}

/** A bar over what others do; told now and then how many rows are left. */
export function watchedProgress(
  what: string,
  total: number,
): { left(rows: number): void; ms(): number; stop(): void } {
  const bar = createBar(what);
  const started = performance.now();
  const ms = () => performance.now() - started;
  bar.start(total, 0, { rate: "-" });
  return {
    left(rows) {
      const done = Math.max(total - rows, 0);
      bar.update(done, { rate: (done / (ms() / 1000)).toFixed(0) });
    },
    ms,
    stop() {
      bar.stop();
    },
  };
}
