import { connect } from "node:net";
import type pg from "pg";

/** The protocol's code of a CancelRequest. */
const CANCEL_REQUEST = 80877102;
/** How long the server may take to answer a canceled statement. */
const GRACE_MS = 250;

/** What pg knows of a connection, beyond its types. */
interface Backend {
  processID: number | null;
  secretKey: number | null;
}

/**
 * Cancels the statement that a connection is running, then cuts the connection. The server would otherwise keep
 * running the statement, or keep its place in a lock's queue, until it next writes to the connection.
 */
export function interrupt(client: pg.Client): void {
  if (client.connection.stream.destroyed) return;
  const { processID, secretKey } = client as unknown as Backend;
  const cut = (): void => {
    client.connection.stream.destroy();
  };
  if (processID === null || secretKey === null) {
    cut();
    return;
  }
  sendCancel(client, processID, secretKey);
  setTimeout(() => {
    // Code that handles the cancellation may have begun another statement.
    sendCancel(client, processID, secretKey);
    cut();
  }, GRACE_MS);
}

/** A CancelRequest needs no connection slot and no password, so it also works where a new connection would not. */
function sendCancel({ host, port }: pg.Client, processID: number, secretKey: number): void {
  const request = Buffer.alloc(16);
  request.writeInt32BE(16, 0);
  request.writeInt32BE(CANCEL_REQUEST, 4);
  request.writeInt32BE(processID, 8);
  request.writeInt32BE(secretKey, 12);
  const socket = host.startsWith("/") ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host);
  socket.on("error", () => undefined);
  socket.setTimeout(GRACE_MS, () => socket.destroy());
  socket.end(request);
}
