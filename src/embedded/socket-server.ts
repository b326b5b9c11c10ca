import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { PGLiteSocketHandler } from "@electric-sql/pglite-socket";
import type { PGLiteSocketHandlerOptions } from "@electric-sql/pglite-socket";
import { configurationError } from "../errors.js";
import { errorResponse } from "./protocol.js";
import type { SharedSession } from "./session.js";

export interface SocketServer {
  port: number;
  /** Refuses new clients, cuts the others off and rolls back what they had open. */
  stop(): Promise<void>;
}

/** The queue of pglite-socket, as its handler uses it, made of our session. */
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
  // The class is not exported and has private fields, so that nothing else can have its type.
  return queue as unknown as PGLiteSocketHandlerOptions["queryQueue"];
}

/** Serves the session to PostgreSQL clients on 127.0.0.1; port 0 takes any free one. */
export async function listen(
  session: SharedSession,
  port: number,
  maxConnections: number,
): Promise<SocketServer> {
  const sockets = new Set<Socket>();
  const queryQueue = asQueryQueue(session);

  const server = createServer((socket) => {
    // The handler listens to errors only from its attachment to its detachment, and an error that nobody
    // listens to ends the process.
    const ignoreErrors = (): void => {
      if (socket.listenerCount("error") === 0) socket.on("error", () => undefined);
    };
    socket.on("removeListener", ignoreErrors);
    ignoreErrors();
    if (sockets.size >= maxConnections) {
      socket.end(
        errorResponse("FATAL", "53300", `sorry, embedded PostgreSQL has ${maxConnections} clients already`),
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
        // After what was written, an error message for one.
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
      const inUse = `port ${port} of 127.0.0.1 is in use by another program`;
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
      // The sockets' close events have asked for the roll-backs; the handlers' own follow a turn later.
      await new Promise((resolve) => setImmediate(resolve));
      await session.idle();
    },
  };
}
