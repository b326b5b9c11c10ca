import { DEFAULTS } from "../defaults.js";
import { EXIT } from "./exit.js";

/** SIGINT or SIGTERM ended a command early. */
export class Interrupted extends Error {
  constructor(readonly signalName: NodeJS.Signals) {
    super(`stopped by ${signalName}`);
    this.name = "Interrupted";
  }
}

/** Closing connections takes some time, however short the deadline. */
const MIN_SHUTDOWN_MS = 1_000;
/** What a finished command has left open may take this long to close. */
const LINGER_MS = 1_000;

const stopping = new AbortController();
let shutdownMs: number = DEFAULTS.shutdownMs;
let deadline: NodeJS.Timeout | undefined;

/** Aborted by the first SIGINT or SIGTERM. Its reason is an `Interrupted`. */
export const stopSignal: AbortSignal = stopping.signal;

/** EMBEDD_SHUTDOWN_MS, once it is known. */
export function setShutdownMs(ms: number): void {
  shutdownMs = ms;
}

/**
 * Makes every command end within EMBEDD_SHUTDOWN_MS of the first signal, in every wait. A second signal ends
 * the process at once.
 */
export function handleStopSignals(): void {
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (stopSignal.aborted) process.exit(EXIT.fault);
      deadline = setTimeout(exitNow, Math.max(shutdownMs, MIN_SHUTDOWN_MS));
      stopping.abort(new Interrupted(name));
    });
  }
}

/** Called when the command has ended: a handle that it left open must not keep the process alive. */
export function endProcess(): void {
  deadline?.unref();
  setTimeout(exitNow, LINGER_MS).unref();
}

/** A command that has set its exit code is done, except for closing what it opened. */
function exitNow(): void {
  process.exit(process.exitCode ?? EXIT.fault);
}

/**
 * Waits for work, or for the first stop signal. The work itself is abandoned then.
 * @throws Interrupted
 */
export async function unlessStopped<T>(work: Promise<T>): Promise<T> {
  let onStop = (): void => undefined;
  const stopped = new Promise<never>((_, reject) => {
    onStop = () => {
      reject(stopSignal.reason as Interrupted);
    };
  });
  if (stopSignal.aborted) onStop();
  stopSignal.addEventListener("abort", onStop, { once: true });
  try {
    return await Promise.race([stopped, work]);
  } finally {
    stopSignal.removeEventListener("abort", onStop);
    // Nobody waits for them any more.
    stopped.catch(() => undefined);
    work.catch(() => undefined);
  }
}
