/** Reads rate limits from response headers. */

/** The server is asked again this soon, however long a wait it requests. */
export const LONGEST_MS = 600_000;

/**
 * Reads `retry-after-ms` or `retry-after` (seconds, an HTTP date, or a duration such as `30s`), as the server means it.
 * @returns milliseconds from now; null: absent
 */
export function requestedWaitMs(headers: Headers, now: number): number | null {
  const ms = Number(headers.get("retry-after-ms") ?? NaN);
  if (Number.isFinite(ms) && ms >= 0) return ms;
  const text = headers.get("retry-after")?.trim();
  if (text === undefined || text === "") return null;
  const seconds = Number(text);
  if (Number.isFinite(seconds)) return Math.max(seconds, 0) * 1_000;
  const duration = durationMs(text);
  if (duration !== null) return duration;
  const date = Date.parse(text);
  return Number.isNaN(date) ? null : Math.max(date - now, 0);
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Parses `1s`, `6m0s`, `20ms`, `1h2m3.5s` or plain seconds. @returns milliseconds; null: not a duration */
export function durationMs(text: string | null): number | null {
  if (text === null || text.trim() === "") return null;
  const seconds = Number(text);
  if (Number.isFinite(seconds)) return seconds >= 0 ? seconds * 1_000 : null;
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text.trim())) return null;
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    total += Number(amount) * (UNITS[unit ?? ""] ?? 0);
  }
  return total;
}

/** One rate limit as reported with an answer. */
export interface RateWindow {
  remaining: number;
  /** null: not reported. */
  limit: number | null;
  /** Time until the limit is fully available again. */
  resetMs: number;
}

/** Reads `x-ratelimit-remaining-…`, `-limit-…` and `-reset-…`; null: absent or unusable. */
export function rateWindow(headers: Headers, what: "requests" | "tokens"): RateWindow | null {
  const remaining = Number(headers.get(`x-ratelimit-remaining-${what}`) ?? NaN);
  const resetMs = durationMs(headers.get(`x-ratelimit-reset-${what}`));
  if (!Number.isFinite(remaining) || remaining < 0 || resetMs === null) return null;
  const limit = Number(headers.get(`x-ratelimit-limit-${what}`) ?? NaN);
  return {
    remaining,
    limit: Number.isFinite(limit) && limit > 0 ? limit : null,
    resetMs: Math.min(resetMs, LONGEST_MS),
  };
}
