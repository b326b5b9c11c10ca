import { clearLine, cursorTo } from "node:readline";
import { Presets, SingleBar } from "cli-progress";
import type { Logger } from "../logger.js";

const SPEED = "{rate} rows/s{left}";
/** A progress bar over rows on standard error. @param detail what follows the counts, in cli-progress's format */
export function createBar(what: string, detail: string): SingleBar {
  return new SingleBar(
    {
      format: `${what} {bar} {percentage}% | {value}/{total} rows | ${detail}`,
      // Without a terminal: one line every two seconds.
      noTTYOutput: true,
      notTTYSchedule: 2_000,
      hideCursor: true,
    },
    Presets.shades_classic,
  );
}

/** The payload of SPEED. Before the first row there is no rate, and no estimate. */
export function speedOf(done: number, total: number, ms: number): { rate: string; left: string } {
  if (done <= 0 || ms <= 0) return { rate: "-", left: "" };
  const perSecond = done / (ms / 1_000);
  return { rate: perSecond.toFixed(0), left: ` | ${duration(Math.ceil((total - done) / perSecond))} left` };
}

function duration(seconds: number): string {
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}m${seconds % 60}s` : `${Math.floor(minutes / 60)}h${minutes % 60}m`;
}

export interface BacklogProgress {
  /** Shows the bar, once there are rows. Until then it only counts, so that nothing is printed across it. */
  show(): void;
  add(rows: number): void;
  rows(): number;
  /** Milliseconds from the start to the last row. */
  ms(): number;
  /** A logger whose lines stand above the bar. */
  above(log: Logger): Logger;
  stop(): void;
}

/** Shows progress through `pending` rows; rows that arrive later extend the bar. */
export function backlogProgress(pending: number): BacklogProgress {
  let total = pending;
  const bar = createBar("embedding", SPEED);
  const started = performance.now();
  let last = started;
  let done = 0;
  let wanted = false;
  let shown = false;
  const draw = (): void => {
    if (!wanted || total === 0) return;
    if (shown) {
      bar.setTotal(total);
      bar.update(done, speedOf(done, total, last - started));
    } else {
      bar.start(total, done, speedOf(done, total, last - started));
      shown = true;
    }
  };
  return {
    show() {
      wanted = true;
      draw();
    },
    add(rows) {
      done += rows;
      last = performance.now();
      total = Math.max(total, done);
      draw();
    },
    rows: () => done,
    ms: () => last - started,
    above: (log) => ({
      debug: log.debug.bind(log),
      info: log.info.bind(log),
      warn: aboveBar(log, "warn"),
      error: aboveBar(log, "error"),
    }),
    stop() {
      if (shown) bar.stop();
      wanted = shown = false;
    },
  };

  function aboveBar(log: Logger, level: "warn" | "error") {
    return (details: object, message: string): void => {
      const onTerminal = shown && process.stderr.isTTY;
      if (onTerminal) {
        cursorTo(process.stderr, 0);
        clearLine(process.stderr, 1);
      }
      log[level](details, message);
      if (onTerminal) bar.render();
    };
  }
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
  bar.start(total, 0, speedOf(0, total, 0));
  return {
    left(rows) {
      const done = Math.max(total - rows, 0);
      bar.update(done, speedOf(done, total, ms()));
    },
    ms,
    stop() {
      bar.stop();
    },
  };
}
