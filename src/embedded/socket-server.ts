import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { PGLiteSocketHandler } from "@electric-sql/pglite-socket";
import type { PGLiteSocketHandlerOptions } from "@electric-sql/pglite-socket";
import { configurationError } from "../errors.js";
import { errorResponse } from "./protocol.js";
import type { SharedSession } from "./session.js";

export interface SocketServer {
  port: number;
  /** Refuses new clients, disconnects the others and rolls back their transactions. */
  stop(): Promise<void>;
}

/** Adapts the session to the queue interface that pglite-socket's handler expects. */
function asQueryQueue(session: SharedSession): PGLiteSocketHandlerOptions["queryQueue"] {
  const queue = {
    enqueue: async (id: number, message: Uint8Array) => {
      await session.receive(id, message);
      return 0;
    },
    clearQueueForHandler: () => undefined,
    clearTransactionIfNeeded: (id: number) => session.disconnect(id),
    getQueueLength: () => 0,
  };
  // The class is not exported and has private fields, so no other value can have its type.
  return queue as unknown as PGLiteSocketHandlerOptions["queryQueue"];
}

/** Serves the session to PostgreSQL clients on 127.0.0.1; port 0 selects a free port. */
export async function listen(
  session: SharedSession,
  port: number,
  maxConnections: number,
): Promise<SocketServer> {
  const sockets = new Set<Socket>();
  const queryQueue = asQueryQueue(session);

  const server = createServer((socket) => {
    // The handler listens for errors only while it is attached, and an unhandled socket error would end the
    // process.
    const ignoreErrors = (): void => {
      if (socket.listenerCount("error") === 0) socket.on("error", () => undefined);
    };
    socket.on("removeListener", ignoreErrors);
    ignoreErrors();
    if (sockets.size >= maxConnections) {
      socket.end(
        errorResponse("FATAL", "53300", `sorry, embedded PostgreSQL allows only ${maxConnections} clients`),
      );
      socket.resume();
      return;
    }
    sockets.add(socket);
    const handler = new PGLiteSocketHandler({ queryQueue, closeOnDetach: true });
    session.connect(handler.handlerId, {
      write: (bytes) => {
        if (socket.writable) socket.write(bytes);
      },
      destroy: () => {
        // Ends after pending writes, such as an error message.
        socket.end(() => socket.destroy());
      },
    });
    socket.on("close", () => {
      sockets.delete(socket);
      void session.disconnect(handler.handlerId);
    });
    void handler.attach(socket);
  });

  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const inUse = `port ${port} on 127.0.0.1 is already in use`;
      reject(error.code === "EADDRINUSE" ? configurationError("port_in_use", inUse) : error);
    });
    server.listen(port, "127.0.0.1", resolve);
  });
  server.on("error", () => undefined);

  return {
    port: (server.address() as AddressInfo).port,
    async stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
      // The sockets' close events have queued the rollbacks; the handlers' events follow one turn later.
      await new Promise((resolve) => setImmediate(resolve));
      await session.idle();
    },
  };
}
