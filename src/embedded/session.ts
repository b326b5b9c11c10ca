import type { PGlite } from "@electric-sql/pglite";
import { messageOf } from "../errors.js";
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

/** Where a client is reached: its socket. */
export interface ClientSink {
  write(bytes: Buffer): void;
  destroy(): void;
}

export interface SharedSessionOptions {
  db: Pick<PGlite, "execProtocolRawStream">;
  /** Always listened to, whatever clients UNLISTEN. */
  channel: string;
  /** A transaction that is idle this long while others wait is ended with its connection. */
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
 * PGlite is one PostgreSQL session; this lets many sockets take turns in it. It stands in for the queue of
 * pglite-socket (0.2.17), which runs every single protocol message as soon as it comes, so that one
 * client's Bind can meet another's Parse; stops for ever after one failure; and leaves a transaction open
 * when its client goes while BEGIN is running.
 *
 * Invariant: whoever has a transaction or an unfinished batch open owns the session, and nobody else's
 * messages run until PostgreSQL has said ReadyForQuery with status idle, or the owner is gone and was
 * rolled back.
 */
export interface SharedSession {
  connect(id: number, sink: ClientSink): void;
  /** A whole message from a client; resolves when it was executed or kept for later. Never rejects. */
  receive(id: number, message: Uint8Array): Promise<void>;
  /** The client is gone: its waiting messages are dropped, its transaction is rolled back. */
  disconnect(id: number): Promise<void>;
  /** Runs one statement of ours. */
  execute(sql: string): Promise<void>;
  /** Resolves when nothing runs and nothing waits. */
  idle(): Promise<void>;
}

export function createSharedSession(options: SharedSessionOptions): SharedSession {
  const { db } = options;
  const clients = new Map<number, Client>();
  const ourselves: Client = {
    frontend: createFrontend(""),
    sink: { write: () => undefined, destroy: () => undefined },
  };
  let tasks: Task[] = [];
  let owner: Client | undefined;
  let running: Promise<void> | undefined;
  let patience: NodeJS.Timeout | undefined;
  let broken: string | undefined;

  function notify(message: BackendMessage, from: Client): void {
    // Others are between two of their answers now, so that a message may be put in.
    for (const client of clients.values()) {
      if (client !== from && client.frontend.listens) client.sink.write(message.bytes);
    }
  }

  /** Runs messages in the session and passes what PostgreSQL answers to `write`. */
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
      if (broken !== undefined) throw new Error(broken);
      await db.execProtocolRawStream(bytes, {
        onRawData: (chunk) => {
          split(chunk);
          if (answers.length > 0) write(Buffer.concat(answers));
          answers = [];
        },
      });
      owner = status === "I" ? undefined : client;
    } catch (error) {
      // Errors of SQL are answers; what is thrown is the end of PGlite itself, or a start-up packet
      // (the only message without a type) that it cannot read.
      const reason = `embedded PostgreSQL has stopped: ${messageOf(error)}`;
      if (bytes[0] !== 0) broken ??= reason;
      write(errorResponse("FATAL", "57P02", broken ?? reason));
      client.sink.destroy();
      owner = undefined;
    }
  }

  async function runAsOurselves(...messages: Buffer[]): Promise<void> {
    await exchange(ourselves, Buffer.concat(messages), () => undefined);
  }

  async function rollBack(client: Client): Promise<void> {
    if (owner === client) {
      // Sync ends a batch that was cut off; it answers whether a transaction is still open.
      await runAsOurselves(syncMessage());
      if (owner) await runAsOurselves(queryMessage("rollback"));
    }
    const { statements } = client.frontend;
    if (statements.size > 0) {
      await runAsOurselves(...[...statements].map(closeStatementMessage), syncMessage());
    }
  }

  function next(): Task | undefined {
    const index = owner ? tasks.findIndex((task) => task.client === owner) : 0;
    return index === -1 ? undefined : tasks.splice(index, 1)[0];
  }

  function watchOwner(): void {
    clearTimeout(patience);
    if (!owner || tasks.length === 0) return;
    const idler = owner;
    patience = setTimeout(() => {
      const text =
        "terminating connection due to idle-in-transaction timeout: others wait for the one session";
      idler.sink.write(errorResponse("FATAL", "25P03", text));
      idler.sink.destroy();
    }, options.idleInTransactionMs);
    patience.unref();
  }

  async function runTasks(): Promise<void> {
    // Not in the caller's turn: `running` must be set before it can be cleared.
    await Promise.resolve();
    clearTimeout(patience);
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
        // UNLISTEN and DISCARD are undone for our channel, in their transaction or after it.
        const held: Client | undefined = owner;
        await runAsOurselves(queryMessage(`listen "${options.channel}"`));
        owner = held;
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
      await enqueue(ourselves, () => runAsOurselves(queryMessage(sql)));
    },
    async idle() {
      while (running) await running;
    },
  };
}
