import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { configurationError } from "../errors.js";
import {
  hasPassword,
  messageFormat,
  passwordFormat,
  passwordRequest,
  readOpening,
  startupFormat,
} from "./client-messages.js";
import { createSplitter, errorResponse } from "./protocol.js";
import type { SharedSession } from "./session.js";

export interface SocketServerOptions {
  /** 0: any free port */
  port: number;
  password: string;
  /** Clients that have given the password. */
  maxClients: number;
  /** A connection is closed if it has not given the password by then. */
  startupMs: number;
}

export interface SocketServer {
  port: number;
  /** Refuses new clients, and disconnects the others. Their transactions are rolled back when the session is idle. */
  stop(): Promise<void>;
}

/** Connections that have not given the password. More close the oldest, so that they cannot keep a client out. */
const MAX_STRANGERS = 100;
/** An SSLRequest and a GSSENCRequest. */
const MAX_ENCRYPTION_REQUESTS = 2;
/** A client that has sent this much of what is not yet executed must wait. */
const MAX_WAITING_BYTES = 1_048_576;
/** A client that does not read its last message is not waited for any longer. */
const CLOSE_MS = 1_000;

/** Closes a connection after what was written to it, such as an error. */
function close(socket: Socket): void {
  socket.end(() => socket.destroy());
  setTimeout(() => socket.destroy(), CLOSE_MS).unref();
}

/** Serves the session to PostgreSQL clients on 127.0.0.1. */
export async function listen(session: SharedSession, options: SocketServerOptions): Promise<SocketServer> {
  const { port, password, maxClients, startupMs } = options;
  const clients = new Set<Socket>();
  /** The oldest first. */
  const strangers = new Set<Socket>();
  let lastId = 0;

  function accept(socket: Socket): void {
    const id = ++lastId;
    let format = startupFormat;
    let startup: Buffer | undefined;
    let encryptionRequests = 0;
    let waitingBytes = 0;
    let refused = false;
    // What has already arrived is read first, however long the event loop was busy.
    const late = setTimeout(() => setImmediate(() => strangers.has(socket) && socket.destroy()), startupMs);
    late.unref();

    function refuse(code: string, text: string): void {
      refused = true;
      socket.write(errorResponse("FATAL", code, text));
      close(socket);
    }

    function onOpening(packet: Buffer): void {
      const opening = readOpening(packet);
      if (opening === "cancel") socket.destroy();
      else if (opening === "encryption") {
        if (++encryptionRequests > MAX_ENCRYPTION_REQUESTS) socket.destroy();
        else socket.write("N");
      } else if (opening === "session") {
        startup = packet;
        format = passwordFormat;
        socket.write(passwordRequest());
      } else refuse("08P01", opening.refusal);
    }

    function onPassword(message: Buffer, startupPacket: Buffer): void {
      if (!hasPassword(message, password)) {
        refuse(
          "28P01",
          "password authentication failed; embedded PostgreSQL's password is in embedd.pgpass in its folder",
        );
        return;
      }
      clearTimeout(late);
      strangers.delete(socket);
      if (clients.size >= maxClients) {
        refuse("53300", `sorry, embedded PostgreSQL allows only ${maxClients} clients`);
        return;
      }
      clients.add(socket);
      format = messageFormat;
      session.connect(id, {
        write: (bytes) => {
          if (socket.writable) socket.write(bytes);
        },
        destroy: () => {
          close(socket);
        },
      });
      receive(startupPacket);
    }

    function receive(message: Buffer): void {
      waitingBytes += message.length;
      if (waitingBytes > MAX_WAITING_BYTES) socket.pause();
      void session.receive(id, message).then(() => {
        waitingBytes -= message.length;
        if (waitingBytes <= MAX_WAITING_BYTES) socket.resume();
      });
    }

    const split = createSplitter(
      () => format,
      (message) => {
        if (refused || socket.destroyed) return;
        if (startup === undefined) onOpening(message);
        else if (format === passwordFormat) onPassword(message, startup);
        else receive(message);
      },
    );
    socket.setNoDelay(true);
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      if (refused) return;
      const problem = split(chunk);
      if (problem !== undefined) refuse("08P01", problem);
    });
    socket.on("close", () => {
      clearTimeout(late);
      strangers.delete(socket);
      if (clients.delete(socket)) void session.disconnect(id);
    });
    strangers.add(socket);
    const [oldest] = strangers;
    if (strangers.size > MAX_STRANGERS) oldest?.destroy();
  }

  const server = createServer(accept);
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
      for (const socket of [...clients, ...strangers]) socket.destroy();
      await closed;
    },
  };
}
