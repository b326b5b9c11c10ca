/** The resources that are open, each as the function that stops it. */
export interface StopStack {
  /** Called right after a resource was opened. */
  push(stop: () => unknown): void;
  /**
   * Stops everything, one by one, in reverse order of opening. A failure does not keep the rest open.
   * @throws the first failure, after everything was stopped
   */
  stopAll(): Promise<void>;
}

export function createStopStack(): StopStack {
  const stack: (() => unknown)[] = [];
  return {
    push(stop) {
      stack.push(stop);
    },
    async stopAll() {
      const failures: unknown[] = [];
      for (let stop = stack.pop(); stop !== undefined; stop = stack.pop()) {
        try {
          await stop();
        } catch (error) {
          failures.push(error);
        }
      }
      if (failures.length > 0) throw failures[0];
    },
  };
}
