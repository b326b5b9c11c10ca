import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";

interface Link {
  client: Socket;
  server: Socket;
  /** Bytes are read and discarded, in both directions. */
  silent: boolean;
}

/** Simulates the network between one worker and the server, with its faults. */
export interface Proxy {
  readonly port: number;
  /** The number of open connections. */
  count(): number;
  /** Resets all connections, or the one at `which`, a fraction from 0 to 1 of the list. */
  cut(which?: number): void;
  /** Blocks traffic in both directions, or from the server only, until `resume`; new connections included. */
  stall(direction?: "both" | "from-server"): void;
  resume(): void;
  /**
   * Discards all further bytes on the current connections without closing either end; new connections work.
   * `closeSilent` closes the server's end, as TCP keepalive would.
   */
  silence(): void;
  /** Closes silent connections at the server's end, or at both ends. */
  closeSilent(which: "server" | "both"): void;
  /** Resets current connections and refuses new ones, until `accept`. */
  refuse(): void;
  accept(): void;
  /** Leads new connections to another server; current ones stay where they are. */
  lead(port: number): void;
  close(): Promise<void>;
}

export async function createProxy(firstPort: number): Promise<Proxy> {
  const links = new Set<Link>();
  let stalled: "both" | "from-server" | null = null;
  let refusing = false;
  let serverPort = firstPort;

  const server = createServer((client) => {
    if (refusing) {
      client.resetAndDestroy();
      return;
    }
    const link: Link = { client, server: connect(serverPort, "127.0.0.1"), silent: false };
    links.add(link);
    pipe(link, link.client, link.server);
    pipe(link, link.server, link.client);
    applyStall(link);
  });

  function pipe(link: Link, from: Socket, to: Socket): void {
    from.setNoDelay(true);
    from.on("data", (data) => {
      if (!link.silent) to.write(data);
    });
    from.on("error", () => undefined);
    from.on("close", () => {
      if (link.silent) {
        if (link.client.destroyed && link.server.destroyed) links.delete(link);
        return;
      }
      links.delete(link);
      // Flushes what was already read from the closed end.
      to.end();
      if (stalled !== null) to.destroy();
    });
  }

  function applyStall({ client, server: upstream, silent }: Link): void {
    if (stalled === null || silent) {
      client.resume();
      upstream.resume();
      return;
    }
    upstream.pause();
    if (stalled === "both") client.pause();
  }

  function closeSilent(which: "server" | "both"): void {
    for (const link of links) {
      if (!link.silent) continue;
      link.server.destroy();
      if (which === "both") link.client.destroy();
    }
  }

  function cut(which?: number): void {
    const all = [...links].filter((link) => !link.silent);
    const chosen = which === undefined ? all : all.slice(Math.floor(which * all.length)).slice(0, 1);
    for (const { client, server: upstream } of chosen) {
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    }
  }

  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    count: () => links.size,
    cut,
    stall(direction = "both") {
      stalled = direction;
      links.forEach(applyStall);
    },
    resume() {
      stalled = null;
      links.forEach(applyStall);
    },
    silence() {
      for (const link of links) {
        link.silent = true;
        applyStall(link);
      }
    },
    closeSilent,
    refuse() {
      refusing = true;
      cut();
    },
    lead(port) {
      serverPort = port;
    },
    accept() {
      refusing = false;
    },
    async close() {
      closeSilent("both");
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
