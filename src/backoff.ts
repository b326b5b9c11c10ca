/**
 * Exponential backoff with full jitter: a random delay up to `baseMs`·2^attempt, but no more than `capMs`.
 * Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
 * @param attempt 0 for the first delay
 * @param random returns a number from 0 to 1
 */
export function backoffMs(attempt: number, baseMs: number, capMs: number, random = Math.random): number {
  return random() * Math.min(baseMs * 2 ** Math.min(attempt, 30), capMs);
}
