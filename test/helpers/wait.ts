import { setTimeout as sleep } from "node:timers/promises";

/** What takes this long never comes: a busy machine is many times slower than a quiet one. Mutations wait less. */
const WAIT_MS = Number(process.env["TEST_WAIT_MS"] ?? 120_000);

export interface WaitOptions {
  /** Shorter only where the wait is expected to fail. @default 120000 */
  timeoutMs?: number;
  /** Ends the sentence "waited … for". */
  what: string;
  /** Twice the time of a check at least, so that waiting leaves the machine to what it waits for. @default 20 */
  intervalMs?: number;
}

/**
 * Repeats a check until it returns something other than `undefined` or `false`, and returns that.
 * @throws what the check throws, and after `timeoutMs`
 */
export async function waitFor<T>(
  check: () => T | undefined | false | Promise<T | undefined | false>,
  { timeoutMs = WAIT_MS, what, intervalMs = 20 }: WaitOptions,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const started = performance.now();
    const answer = await check();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() >= deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await sleep(Math.max(intervalMs, 2 * (performance.now() - started)));
  }
}
