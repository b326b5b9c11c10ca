import pg from "pg";

/**
 * The server takes no writes: it is a standby, or was protected with default_transaction_read_only. A session that began
 * in that time stays read-only afterwards, and one that began earlier may lead to a server that has been replaced.
 */
export const READ_ONLY = "25006";

export const isReadOnly = (error: unknown): boolean =>
  error instanceof pg.DatabaseError && error.code === READ_ONLY;

/** Connection exceptions, shutdowns, timeouts of the session, and what only a session with a past can raise. */
const SESSION_ERROR = /^(08...|57P0.|25P0[345]|0A000|26000|25006)$/;

/** Whether an error speaks of its session or the server rather than of the statement: a new session may succeed. */
export const isSessionError = (error: unknown): boolean =>
  error instanceof pg.DatabaseError && SESSION_ERROR.test(error.code ?? "");
