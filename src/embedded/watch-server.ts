import { connect } from "node:net";
import { EmbeddError } from "../errors.js";
import { shellWord } from "../shell-word.js";
import { findServer } from "./directory-lock.js";
import type { Access } from "./password-file.js";

const POLL_MS = 1_000;

/** The process that served a database that others use too has ended. */
export function embeddedStopped(dataDir: string): EmbeddError {
  return new EmbeddError(
    `the process that served ${shellWord(dataDir)} has ended, and so has its embedded PostgreSQL`,
    { kind: "database", code: "embedded_stopped", hint: "embedd run" },
  );
}

/**
 * Watches the server of another process.
 * @returns `lost`, aborted with an `EmbeddError` once the folder has no claim of that server and its port refuses
 *   connections, and a function that ends the watch
 */
export function watchServer(
  folder: string,
  dataDir: string,
  access: Access,
): { lost: AbortSignal; end: () => void } {
  const lost = new AbortController();
  const check = async (): Promise<void> => {
    const found = await findServer(folder).catch(() => undefined);
    if (typeof found === "object" && found.port === access.port && found.password === access.password) return;
    if (await refusesConnections(access.port)) lost.abort(embeddedStopped(dataDir));
  };
  const timer = setInterval(() => void check(), POLL_MS);
  timer.unref();
  const end = (): void => {
    clearInterval(timer);
  };
  lost.signal.addEventListener("abort", end);
  return { lost: lost.signal, end };
}

/** Whether nothing listens on this port of the machine. */
export function refusesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED"));
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
  });
}
