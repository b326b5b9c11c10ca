import { messageOf } from "../errors.js";
import type { Database } from "./database.js";
import { createFrontend } from "./frontend.js";
import type { Frontend } from "./frontend.js";
import {
  closeStatementMessage,
  createMessageSplitter,
  errorResponse,
  queryMessage,
  syncMessage,
} from "./protocol.js";
import type { BackendMessage } from "./protocol.js";

/** A client's socket. */
export interface ClientSink {
  write(bytes: Buffer): void;
  destroy(): void;
}

export interface SharedSessionOptions {
  db: Pick<Database, "execProtocolRawStream">;
  /** The session always listens on this channel, even after a client's UNLISTEN. */
  channel: string;
  /** A connection is closed if its transaction idles this long while other clients wait. */
  idleInTransactionMs: number;
}

interface Client {
  frontend: Frontend;
  sink: ClientSink;
}

interface Task {
  client: Client;
  run: () => Promise<void>;
  done: () => void;
}

/**
 * PGlite is one PostgreSQL session; this lets many sockets take turns in it. It replaces
 * pglite-socket (0.2.17), which runs each protocol message on arrival, so that one client's Bind can follow
 * another's Parse; which stops permanently after one failure; which leaves a transaction open if its client
 * disconnects during BEGIN; and which loops without an end over a negative length.
 *
 * Invariant: a client with an open transaction or an unfinished batch owns the session. No other client's
 * messages run until PostgreSQL reports ReadyForQuery with status idle, or the owner has disconnected and was
 * rolled back.
 */
export interface SharedSession {
  connect(id: number, sink: ClientSink): void;
  /** Takes one whole message; resolves when it is executed or buffered. Never rejects. */
  receive(id: number, message: Uint8Array): Promise<void>;
  /** Drops the client's queued messages and rolls back its transaction. */
  disconnect(id: number): Promise<void>;
  /** Runs an internal statement. */
  execute(sql: string): Promise<void>;
  /** Resolves when nothing is running or queued. */
  idle(): Promise<void>;
}

export function createSharedSession(options: SharedSessionOptions): SharedSession {
  const { db } = options;
  const clients = new Map<number, Client>();
  const internal: Client = {
    frontend: createFrontend(""),
    sink: { write: () => undefined, destroy: () => undefined },
  };
  let tasks: Task[] = [];
  let owner: Client | undefined;
  let running: Promise<void> | undefined;
  let idleTimer: NodeJS.Timeout | undefined;
  let stopReason: string | undefined;

  function notify(message: BackendMessage, from: Client): void {
    // No other client is in the middle of an answer now, so a message can be inserted.
    for (const client of clients.values()) {
      if (client !== from && client.frontend.listens) client.sink.write(message.bytes);
    }
  }

  /** Runs messages in the session and passes PostgreSQL's answers to `write`. */
  async function exchange(
    client: Client,
    bytes: Buffer,
    write: (answer: Buffer) => void,
    hideCopyIn = false,
  ): Promise<void> {
    let status: string | undefined;
    let answers: Buffer[] = [];
    const split = createMessageSplitter((message) => {
      if (message.type === "Z") status = String.fromCharCode(message.bytes[5] ?? 0);
      if (message.type === "A") notify(message, client);
      if (message.type === "A" && !client.frontend.listens) return;
      if (message.type === "G" && hideCopyIn) return;
      answers.push(message.bytes);
    });
    try {
      if (stopReason !== undefined) throw new Error(stopReason);
      await db.execProtocolRawStream(bytes, {
        onRawData: (chunk) => {
          split(chunk);
          if (answers.length > 0) write(Buffer.concat(answers));
          answers = [];
        },
      });
      owner = status === "I" ? undefined : client;
    } catch (error) {
      // SQL errors are answers. An exception means that PGlite itself has stopped, or that it cannot read a
      // startup packet (the only message without a type byte).
      const reason = `embedded PostgreSQL has stopped: ${messageOf(error)}`;
      if (bytes[0] !== 0) stopReason ??= reason;
      write(errorResponse("FATAL", "57P02", stopReason ?? reason));
      client.sink.destroy();
      owner = undefined;
    }
  }

  async function runInternal(...messages: Buffer[]): Promise<void> {
    await exchange(internal, Buffer.concat(messages), () => undefined);
  }

  async function rollBack(client: Client): Promise<void> {
    if (owner === client) {
      // Sync ends an incomplete batch, and its answer tells whether a transaction is still open.
      await runInternal(syncMessage());
      if (owner) await runInternal(queryMessage("rollback"));
    }
    const { statements } = client.frontend;
    if (statements.size > 0) {
      await runInternal(...[...statements].map(closeStatementMessage), syncMessage());
    }
  }

  function next(): Task | undefined {
    const index = owner ? tasks.findIndex((task) => task.client === owner) : 0;
    return index === -1 ? undefined : tasks.splice(index, 1)[0];
  }

  function watchOwner(): void {
    clearTimeout(idleTimer);
    if (!owner || tasks.length === 0) return;
    const idleOwner = owner;
    idleTimer = setTimeout(() => {
      const text =
        "terminating connection due to idle-in-transaction timeout: other clients are waiting for the shared session";
      idleOwner.sink.write(errorResponse("FATAL", "25P03", text));
      idleOwner.sink.destroy();
    }, options.idleInTransactionMs);
    idleTimer.unref();
  }

  async function runTasks(): Promise<void> {
    // Starts asynchronously: `running` must be set before this function clears it.
    await Promise.resolve();
    clearTimeout(idleTimer);
    for (let task = next(); task; task = next()) {
      await task.run();
      task.done();
    }
    watchOwner();
    running = undefined;
  }

  function enqueue(client: Client, run: () => Promise<void>): Promise<void> {
    return new Promise((resolve) => {
      tasks.push({ client, run, done: resolve });
      running ??= runTasks();
    });
  }

  async function receive(id: number, message: Uint8Array): Promise<void> {
    const client = clients.get(id);
    if (!client) return;
    const step = client.frontend.accept(Buffer.from(message));
    if (step.reply) client.sink.write(step.reply);
    const { execute } = step;
    if (!execute) return;
    await enqueue(client, async () => {
      await exchange(client, execute, (answer) => client.sink.write(answer), step.hideCopyIn);
      if (step.unlistens === true) {
        // Restores LISTEN on our channel after UNLISTEN or DISCARD, in the same transaction if one is open.
        const previousOwner: Client | undefined = owner;
        await runInternal(queryMessage(`listen "${options.channel}"`));
        owner = previousOwner;
      }
    });
  }

  return {
    connect(id, sink) {
      clients.set(id, { frontend: createFrontend(`c${id}_`), sink });
    },
    receive,
    async disconnect(id) {
      const client = clients.get(id);
      if (!client) return;
      clients.delete(id);
      const dropped = tasks.filter((task) => task.client === client);
      tasks = tasks.filter((task) => task.client !== client);
      for (const task of dropped) task.done();
      await enqueue(client, () => rollBack(client));
    },
    async execute(sql) {
      await enqueue(internal, () => runInternal(queryMessage(sql)));
    },
    async idle() {
      while (running) await running;
    },
  };
}
