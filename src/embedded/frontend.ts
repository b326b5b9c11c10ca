import { copyFailMessage, copyInResponse, leadingSql, renameStatement } from "./protocol.js";

/**
 * Buffers one client's messages until PostgreSQL can execute them as a unit:
 * - Parse, Bind, Describe, Execute and Close up to the next Sync, Flush or Query, so that no other client's
 *   message comes between a Parse and its Bind;
 * - COPY FROM STDIN with all its rows. PGlite reads rows from the same input as the command, and without rows
 *   PGlite stops with `exit(1)`, for all clients.
 */
export interface Frontend {
  /** Takes a message. @returns what to do now */
  accept(message: Buffer): FrontendStep;
  /** This client's prepared statements, by their names in PostgreSQL. */
  readonly statements: Set<string>;
  /** Whether the client has sent LISTEN, and so gets notifications. */
  readonly listens: boolean;
}

export interface FrontendStep {
  /** Send to PostgreSQL as one unit. */
  execute?: Buffer;
  /** Send to the client now. */
  reply?: Buffer;
  /** Drop PostgreSQL's CopyInResponse: the client already has ours. */
  hideCopyIn?: boolean;
  /** The statement can undo the session's LISTEN. */
  unlistens?: boolean;
}

const COPY_FROM_STDIN = /(?:^|;)\s*copy\s[^;]*\sfrom\s+stdin\b([^;]*)/i;
const LISTENS = /(?:^|;)\s*listen\b/i;
const UNLISTENS = /(?:^|;)\s*(?:unlisten|discard)\b/i;
const LEADING_COMMENTS = /^(?:\s+|--[^\n]*(?:\n|$)|\/\*[^]*?\*\/)+/;

/** Aborts a COPY FROM STDIN that would wait for missing rows. Outside COPY, PostgreSQL ignores it. */
const guard = copyFailMessage(
  "embedded PostgreSQL supports one COPY FROM STDIN per query, in the simple query protocol only",
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
        // The guard precedes Sync, because COPY ignores a Sync.
        return execute([guard, bytes]);
      // Ignored: rows of a COPY that has already failed, and Terminate, since the socket closes anyway.
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
