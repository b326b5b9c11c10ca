import { Presets, SingleBar } from "cli-progress";

const SPEED = "{rate} rows/s | {eta_formatted} left";

/** A progress bar over rows on standard error. @param detail what follows the counts, in cli-progress's format */
export function createBar(what: string, detail: string): SingleBar {
  return new SingleBar(
    {
      format: `${what} {bar} {percentage}% | {value}/{total} rows | ${detail}`,
      etaBuffer: 100,
      // Without a terminal: one line every two seconds.
      noTTYOutput: true,
      notTTYSchedule: 2_000,
      hideCursor: true,
    },
    Presets.shades_classic,
  );
}

const rowsPerSecond = (rows: number, ms: number): string => (rows / (ms / 1000)).toFixed(0);

export interface BacklogProgress {
  add(rows: number): void;
  rows(): number;
  /** Milliseconds from the start to the last row. */
  ms(): number;
  stop(): void;
}

/** Shows progress through `pending` rows; rows that arrive later extend the bar. */
export function backlogProgress(pending: number): BacklogProgress {
  let total = pending;
  const bar = createBar("embedding", SPEED);
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
      bar.update(done, { rate: rowsPerSecond(done, last - started) });
    },
    rows: () => done,
    ms: () => last - started,
    stop() {
      bar.stop();
    },
  };
}

export interface WatchedProgress {
  /** Reports how many rows are left. */
  left(rows: number): void;
  /** Milliseconds since the start. */
  ms(): number;
  stop(): void;
}

/** Shows progress of work that other processes do. */
export function watchedProgress(what: string, total: number): WatchedProgress {
  const bar = createBar(what, SPEED);
  const started = performance.now();
  const ms = () => performance.now() - started;
  bar.start(total, 0, { rate: "-" });
  return {
    left(rows) {
      const done = Math.max(total - rows, 0);
      bar.update(done, { rate: rowsPerSecond(done, ms()) });
    },
    ms,
    stop() {
      bar.stop();
    },
  };
}
