import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";

/** Writes an answer as bytes, so that it can break every rule of HTTP. */
export type RawAnswer = (socket: Socket, request: { texts: string[] }) => void | Promise<void>;

export interface RawApiServer {
  url: string;
  readonly requests: number;
  /** Handed to the system for all connections; its buffers hold a few MB that nobody read. */
  readonly bytesWritten: number;
  /** Connections that are still open. */
  readonly open: number;
  stop(): Promise<void>;
}

/** A server on loopback that reads requests as HTTP, and answers with bytes. */
export async function startRawApiServer(answer: RawAnswer): Promise<RawApiServer> {
  const sockets = new Set<Socket>();
  let requests = 0;
  let written = 0;
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => {
      sockets.delete(socket);
      written += socket.bytesWritten;
    });
    let received = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      const body = bodyOf(received);
      if (body === null) return;
      received = Buffer.alloc(0);
      requests++;
      void answer(socket, { texts: (JSON.parse(body) as { input: string[] }).input });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    get requests() {
      return requests;
    },
    get bytesWritten() {
      return [...sockets].reduce((sum, socket) => sum + socket.bytesWritten, written);
    },
    get open() {
      return sockets.size;
    },
    stop: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** null: the request has not arrived in full. */
function bodyOf(received: Buffer): string | null {
  const start = received.indexOf("\r\n\r\n") + 4;
  const length = /content-length: (\d+)/i.exec(received.toString("latin1", 0, start))?.[1];
  return start < 4 || received.length < start + Number(length) ? null : received.toString("utf8", start);
}

/** Writes these bytes again and again, as fast as they are read, until the client leaves. */
export async function writeEndlessly(socket: Socket, piece: string | Buffer): Promise<void> {
  const block = Buffer.alloc(65_536, piece);
  while (!socket.destroyed) {
    if (socket.write(block)) continue;
    await new Promise<void>((resolve) => {
      socket.once("drain", resolve).once("close", resolve);
    });
    socket.removeAllListeners("drain");
  }
}

/** Writes one byte after the other, slowly, until the client leaves. */
export function drip(socket: Socket, bytes: string | Buffer): void {
  let at = 0;
  const all = Buffer.from(bytes);
  const timer = setInterval(() => {
    socket.write(all.subarray(at % all.length, (at++ % all.length) + 1));
  }, 20);
  socket.once("close", () => {
    clearInterval(timer);
  });
}
