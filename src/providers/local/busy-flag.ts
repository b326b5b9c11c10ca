/**
 * Tells whether the session thread is inside ONNX Runtime. If `process.exit` ends the thread there, the native
 * binding aborts the whole process (SIGABRT, exit code 134) when its call returns. So the main thread waits for
 * that call, one micro-batch at most, before it exits.
 */
export type BusyFlag = Int32Array<SharedArrayBuffer>;

const IDLE = 0;
const BUSY = 1;
const STOPPED = 2;
/** Far longer than a micro-batch or loading a model takes. */
const MAX_WAIT_MS = 10_000;

export function createBusyFlag(): BusyFlag {
  return new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
}

/** Runs `native` with the flag set. Never resolves if the process is about to exit. */
export async function whileBusy<T>(flag: BusyFlag, native: () => Promise<T>): Promise<T> {
  if (Atomics.compareExchange(flag, 0, IDLE, BUSY) === STOPPED) return new Promise<T>(() => undefined);
  try {
    return await native();
  } finally {
    Atomics.store(flag, 0, IDLE);
    Atomics.notify(flag, 0);
  }
}

/** Blocks the calling thread until the session thread has left native code, and keeps it out. */
export function stopBlocking(flag: BusyFlag): void {
  const deadline = performance.now() + MAX_WAIT_MS;
  while (Atomics.compareExchange(flag, 0, IDLE, STOPPED) === BUSY) {
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) return;
    Atomics.wait(flag, 0, BUSY, leftMs);
  }
}
