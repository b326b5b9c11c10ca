/** Lets a request have the server to itself: what goes wrong meanwhile is not another request's doing. */
export interface Lane {
  /** Settles when requests may start again; null: they may. */
  readonly closed: Promise<void> | null;
  /** A request started. @returns what to call when it has ended */
  started(): () => void;
  /** Waits until no request is on its way, and lets none start until `work` is done. */
  alone<T>(work: () => Promise<T>): Promise<T>;
}

export function createLane(): Lane {
  let closed: Promise<void> | null = null;
  let running = 0;
  let onIdle: () => void = () => undefined;

  return {
    get closed() {
      return closed;
    },
    started() {
      running++;
      return () => {
        if (--running === 0) onIdle();
      };
    },
    async alone(work) {
      while (closed !== null) await closed;
      let open: () => void = () => undefined;
      closed = new Promise((resolve) => (open = resolve));
      try {
        if (running > 0) await new Promise<void>((resolve) => (onIdle = resolve));
        return await work();
      } finally {
        closed = null;
        open();
      }
    },
  };
}
