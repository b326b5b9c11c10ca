import { expect, it } from "vitest";
import { queryMessage } from "#embedd/embedded/protocol.js";
import { createSharedSession } from "#embedd/embedded/session.js";
import type { SharedSession } from "#embedd/embedded/session.js";
import { parseErrorMessage, readyForQuery } from "../../helpers/backend-messages.js";
import { waitFor } from "../../helpers/wait.js";

/** Understands BEGIN and ROLLBACK, and crashes on DIE. */
function fakeSession(idleInTransactionMs: number): { session: SharedSession; ran: string[] } {
  const ran: string[] = [];
  let status: "I" | "T" = "I";
  const session = createSharedSession({
    db: {
      execProtocolRawStream: (bytes, { onRawData }) => {
        const sql = /[a-z]+/.exec(Buffer.from(bytes).toString("latin1").slice(5))?.[0] ?? "sync";
        ran.push(sql);
        if (sql === "die") return Promise.reject(new Error("unreachable"));
        if (sql === "begin") status = "T";
        if (sql === "rollback") status = "I";
        onRawData(readyForQuery(status));
        return Promise.resolve();
      },
    },
    channel: "embedd",
    idleInTransactionMs,
  });
  return { session, ran };
}

function connect(session: SharedSession, id: number): string[] {
  const got: string[] = [];
  session.connect(id, {
    write: (bytes) =>
      got.push(bytes[0] === "E".charCodeAt(0) ? parseErrorMessage(bytes) : bytes.toString("latin1", 0, 1)),
    destroy: () => {
      got.push("destroyed");
      void session.disconnect(id);
    },
  });
  return got;
}

it("the session ends a transaction that is idle for too long while other clients wait", async () => {
  const { session, ran } = fakeSession(50);
  const idler = connect(session, 1);
  const waiting = connect(session, 2);
  await session.receive(1, queryMessage("begin"));
  await session.receive(2, queryMessage("select"));
  expect(idler[1]).toMatch(/^terminating connection due to idle-in-transaction timeout/);
  expect(idler[2]).toBe("destroyed");
  expect(waiting).toEqual(["Z"]);
  expect(ran).toEqual(["begin", "sync", "rollback", "select"]);
});

it("the session keeps an idle transaction while no other client waits", async () => {
  const { session, ran } = fakeSession(1);
  const idler = connect(session, 1);
  await session.receive(1, queryMessage("begin"));
  const started = Date.now();
  await waitFor(() => Date.now() - started > 30, { what: "30 ms" });
  await session.receive(1, queryMessage("insert"));
  expect(idler).toEqual(["Z", "Z"]);
  expect(ran).toEqual(["begin", "insert"]);
});

it("the session tells all clients when PGlite has ended", async () => {
  const { session } = fakeSession(1_000);
  const [first, second] = [connect(session, 1), connect(session, 2)];
  await Promise.all([session.receive(1, queryMessage("die")), session.receive(2, queryMessage("select"))]);
  for (const got of [first, second])
    expect(got).toEqual(["embedded PostgreSQL has stopped: unreachable", "destroyed"]);
});
