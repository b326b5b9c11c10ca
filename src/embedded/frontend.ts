import { copyFailMessage, copyInResponse, leadingSql, renameStatement } from "./protocol.js";

/**
 * What one client has sent but PostgreSQL has not seen yet. Messages are held back until PostgreSQL can
 * answer them as a whole:
 * - Parse, Bind, Describe, Execute and Close up to their Sync, Flush or Query, so that no other client's
 *   messages come between a Parse and the Bind that means it;
 * - a COPY FROM STDIN with all its rows. PGlite reads them from the same input as the command, and ends
 *   (the whole process's database, with `exit(1)`) when there are none.
 */
export interface Frontend {
  /** Takes a message; the answer is what to do now. */
  accept(message: Buffer): FrontendStep;
  /** Prepared statements of this client that PostgreSQL holds, by their name there. */
  readonly statements: Set<string>;
  /** This client has said LISTEN, so it wants notifications. */
  readonly listens: boolean;
}

export interface FrontendStep {
  /** For PostgreSQL, in one go. */
  execute?: Buffer;
  /** For the client, at once. */
  reply?: Buffer;
  /** PostgreSQL's own CopyInResponse must not reach the client: it has had ours. */
  hideCopyIn?: boolean;
  /** The session's LISTENs may be gone. */
  unlistens?: boolean;
}

const COPY_FROM_STDIN = /(?:^|;)\s*copy\s[^;]*\sfrom\s+stdin\b([^;]*)/i;
const LISTENS = /(?:^|;)\s*listen\b/i;
const UNLISTENS = /(?:^|;)\s*(?:unlisten|discard)\b/i;
const LEADING_COMMENTS = /^(?:\s+|--[^\n]*(?:\n|$)|\/\*[^]*?\*\/)+/;

/**
 * Ends any COPY FROM STDIN that would wait for rows which are not there; PostgreSQL ignores it otherwise.
 */
const guard = copyFailMessage(
  "embedded PostgreSQL takes one COPY FROM STDIN a statement, by the simple query protocol",
);

export function createFrontend(prefix: string): Frontend {
  const statements = new Set<string>();
  let held: Buffer[] = [];
  let copy: Buffer[] | undefined;
  let listens = false;
  let unlistens = false;

  function execute(batch: Buffer[], hideCopyIn = false): FrontendStep {
    const step = { execute: Buffer.concat([...held, ...batch]), hideCopyIn, unlistens };
    held = [];
    copy = undefined;
    unlistens = false;
    return step;
  }

  function accept(received: Buffer): FrontendStep {
    const type = String.fromCharCode(received[0] ?? 0);
    if (copy) {
      if (type === "d") copy.push(received);
      if (type === "c" || type === "f") return execute([...copy, received, guard], true);
      // Sync and Flush are ignored inside COPY, as PostgreSQL does.
      return {};
    }
    const sql = leadingSql(received).replace(LEADING_COMMENTS, "");
    listens ||= LISTENS.test(sql);
    unlistens ||= UNLISTENS.test(sql);
    const { bytes, statement } = renameStatement(received, prefix);
    if (statement !== undefined) statements.add(statement);
    switch (type) {
      case "P":
      case "B":
      case "D":
      case "E":
      case "C":
        held.push(bytes);
        return {};
      case "Q": {
        const fromStdin = COPY_FROM_STDIN.exec(sql);
        if (!fromStdin) return execute([bytes, guard]);
        copy = [bytes];
        return { reply: copyInResponse(/\bbinary\b/i.test(fromStdin[1] ?? "")) };
      }
      case "S":
      case "H":
        // The guard stands before Sync, which a COPY would swallow.
        return execute([guard, bytes]);
      // Rows of a COPY that has failed already, and Terminate: the socket's end says the same.
      case "d":
      case "c":
      case "f":
      case "X":
        return {};
      default:
        return execute([bytes]);
    }
  }

  return {
    accept,
    statements,
    get listens() {
      return listens;
    },
  };
}
