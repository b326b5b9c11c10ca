/** One figure that must not grow in the course of a soak. */
export interface Figure {
  name: string;
  /** In the order of the samples. */
  values: number[];
}

/** How much a figure may grow from the first quarter to the last. */
interface Tolerance {
  /** As a share of the first quarter's median. */
  share: number;
  /** Added to it, in the figure's unit: below this, growth cannot be told from noise. */
  slack: number;
}

/**
 * By the start of a figure's name; the first match counts. A leak grows with time without an end, so in an hour it
 * exceeds any of these many times over: 10 bytes lost per vector are 5 MB.
 */
const TOLERATED: readonly [prefix: string, tolerance: Tolerance][] = [
  // Node.js returns freed memory late, and a restarted worker's memory depends on its age.
  ["RSS", { share: 0.15, slack: 24 }],
  // Measured after a garbage collection. Compiled code and caches of the libraries fill up in the first minutes.
  ["heap", { share: 0.1, slack: 3 }],
  // A sample may meet more batches in flight, each with a timer and a socket.
  ["resources", { share: 0.25, slack: 8 }],
  ["listener warnings", { share: 0, slack: 0 }],
  // Faults replace connections, and the server needs a moment to notice that the old ones are gone.
  ["connections", { share: 0.25, slack: 4 }],
  ["workers", { share: 0, slack: 1 }],
  // Batches in flight come and go.
  ["rows of leases", { share: 0.5, slack: 6 }],
  // Texts that a trigger refuses: the writers keep about 2 in 100 rows of these.
  ["rows of failures", { share: 0.5, slack: 20 }],
  // The cache is limited to 1 MB, about 1,560 vectors of 670 bytes. A crash of the server empties it, and each worker
  // measures its size only from time to time.
  ["rows of vectors", { share: 0, slack: 2_400 }],
  ["rows of refresh_windows", { share: 0, slack: 4 }],
  // One row per day, pipeline and model; the switches, which make new pipelines, are divided out.
  ["rows of usage per switch", { share: 0.25, slack: 4 }],
  ["rows of", { share: 0, slack: 1 }],
  // Space of deleted rows is reused only after autovacuum, which visits a database once per minute.
  ["size", { share: 0.5, slack: 2_048 }],
  // Writers' own WAL is part of it, and a checkpoint after a restart.
  ["WAL", { share: 0.35, slack: 1_500 }],
];

export interface Verdict {
  name: string;
  /** Medians; NaN: too few samples. */
  first: number;
  last: number;
  peak: number;
  grown: boolean;
}

/** Compares each figure's median in the first quarter with that in the last. */
export function judge(figures: readonly Figure[]): Verdict[] {
  return figures.map(({ name, values }) => {
    const quarter = Math.max(1, Math.floor(values.length / 4));
    const first = median(values.slice(0, quarter));
    const last = median(values.slice(-quarter));
    const { share, slack } = TOLERATED.find(([prefix]) => name.startsWith(prefix))?.[1] ?? NO_GROWTH;
    const peak = Math.max(...values);
    return { name, first, last, peak, grown: last > first * (1 + share) + slack };
  });
}

const NO_GROWTH: Tolerance = { share: 0, slack: 0 };

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const high = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] ?? NaN) + high) / 2;
}

/** One line: each figure's first median, last median and peak. */
export function formatVerdicts(verdicts: readonly Verdict[]): string {
  return verdicts
    .map(
      ({ name, first, last, peak, grown }) =>
        `${name} ${short(first)} -> ${short(last)} (peak ${short(peak)})${grown ? " GREW" : ""}`,
    )
    .join("; ");
}

const short = (value: number): string =>
  (value < 100 ? Number(value.toFixed(1)) : Math.round(value)).toString();
