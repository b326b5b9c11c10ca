import pgListen from "pg-listen";
import { messageOf } from "../../errors.js";
import type { Logger } from "../../logger.js";
import { clientConfig } from "../../database/pool.js";
import type { ConnectOptions } from "../../database/pool.js";
import { backoffMs } from "../../backoff.js";
import { atMost } from "../../sleep.js";

/** The only channel. Its payload is the id of a pipeline with work, or `pipelines`. */
const CHANNEL = "embedd";
/** A row of embedd.pipelines has changed. */
export const PIPELINES_CHANGED = "pipelines";

export interface Listener {
  stop(): Promise<void>;
}

export interface ListenerOptions extends ConnectOptions {
  log: Logger;
  onNotification: (payload: string) => void;
  /** Notifications may have been missed. */
  onReconnect: () => void;
}

/**
 * Listens on the channel. A connection that is lost later is replaced, indefinitely.
 * @throws the database's error if the first connection fails; nothing is left open then
 */
export async function openListener(options: ListenerOptions): Promise<Listener> {
  const { log } = options;
  let connects = 0;
  let reconnecting = false;
  let closed = false;
  let settled: () => void = () => undefined;
  const subscriber = pgListen.default(
    // The heartbeat's query fails after this long on a connection that is only half open.
    { ...clientConfig(options), query_timeout: 5_000 },
    {
      // The default gives up after 3 s and stays deaf.
      retryTimeout: 0,
      retryInterval: (attempt) => {
        // pg-listen knows no other way to stop reconnecting.
        if (closed) throw new Error("the listener is closed");
        return Math.max(50, backoffMs(attempt, 100, 2_000));
      },
      paranoidChecking: 5_000,
      parse: (payload: string) => payload,
    },
  );
  subscriber.events.on("notification", ({ payload }) => {
    options.onNotification(String(payload));
  });
  subscriber.events.on("reconnect", () => {
    reconnecting = true;
  });
  subscriber.events.on("connected", () => {
    reconnecting = false;
    settled();
    if (closed) {
      // A reconnect that was under way when the listener was closed.
      void close();
      return;
    }
    if (connects++ > 0) options.onReconnect();
  });
  subscriber.events.on("error", (error) => {
    if (closed) void close();
    else log.warn({ cause: messageOf(error) }, "the listener failed");
  });

  async function close(): Promise<void> {
    closed = true;
    // A connection that is only half open does not end on its own.
    await atMost(1_000, subscriber.close());
  }

  try {
    await subscriber.connect();
    await subscriber.listenTo(CHANNEL);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    async stop() {
      // pg-listen does not close a connection that it is opening.
      if (reconnecting) {
        await Promise.race([
          new Promise<void>((resolve) => (settled = resolve)),
          new Promise<void>((resolve) => setTimeout(resolve, 3_000).unref()),
        ]);
      }
      await close();
    },
  };
}
