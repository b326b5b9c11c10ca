import { userInfo } from "node:os";
import pg from "pg";
import { addressTarget, hostAndPort } from "../database-address.js";
import type { ErrorCode, ErrorKind } from "../error-codes.js";
import { configurationError, EmbeddError, messageOf } from "../errors.js";
import { shellWord } from "../shell-word.js";
import { READ_ONLY } from "./session-error.js";

/** Where a connection leads, without its password. */
interface Target {
  user: string;
  host: string;
  port: string;
  database: string;
}

interface Explanation {
  kind: ErrorKind;
  code: ErrorCode;
  message: string;
  hint: string;
}

/** The network or the name service does not lead to a server. */
const NO_SERVER = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ETIMEDOUT",
  "EPIPE",
  "ENOENT",
]);

/** admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections, connection exceptions */
const UNAVAILABLE = /^(57P0[123]|53300|08...)$/;

/** What pg and Node's TLS say when the server cannot be trusted. */
const UNTRUSTED = new Set([
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "CERT_HAS_EXPIRED",
  "ERR_TLS_CERT_ALTNAME_INVALID",
]);

/** pg raises these without a code. */
const TIMED_OUT = /timeout expired|timeout exceeded when trying to connect|connection timeout/i;
const CUT_OFF = /Connection terminated|Client has encountered a connection error/;

/**
 * Says in embedd's words why a connection cannot be had, and what to type. Any other error is returned as it is.
 * @param databaseUrl that the connection was opened with; its password is never repeated
 */
export function explainConnectionError(error: unknown, databaseUrl: string): unknown {
  if (error instanceof EmbeddError) return error;
  const explanation = explain(error, targetOf(databaseUrl));
  if (explanation === null) return error;
  const { message, ...options } = explanation;
  return new EmbeddError(message, { ...options, cause: error });
}

function explain(error: unknown, to: Target): Explanation | null {
  const message = messageOf(error);
  const code = codeOf(error);
  const where = hostAndPort(to);
  const server = `-h ${shellWord(to.host)} -p ${to.port}`;
  const ready = `pg_isready ${server}`;
  if (error instanceof pg.DatabaseError) {
    if (code === "3D000")
      return {
        kind: "configuration",
        code: "no_such_database",
        message: `${where}: ${message}`,
        hint: `createdb ${server} -U ${shellWord(to.user)} ${shellWord(to.database)}`,
      };
    if (code === "28000" && /no encryption|SSL off/.test(message))
      return {
        kind: "configuration",
        code: "tls",
        message: `${where} accepts only encrypted connections: ${message}`,
        hint: exportUrl(to, "?sslmode=require"),
      };
    if (code === "28P01" || code === "28000")
      return {
        kind: "configuration",
        code: "login",
        message: `${where}: ${message}`,
        hint: `psql ${server} -U ${shellWord(to.user)} ${shellWord(to.database)}`,
      };
    if (code === READ_ONLY)
      return {
        kind: "database",
        code: "read_only",
        message: `${where} takes no writes; it is a standby, or default_transaction_read_only is on: ${message}`,
        hint: "SELECT pg_is_in_recovery(), source FROM pg_settings WHERE name = 'default_transaction_read_only';",
      };
    if (code !== undefined && UNAVAILABLE.test(code))
      return { kind: "database", code: "database_unavailable", message: `${where}: ${message}`, hint: ready };
    return null;
  }
  if (/password must be a string|SASL/.test(message))
    return {
      kind: "configuration",
      code: "login",
      message: `${where} asks for the password of role ${to.user}, and DATABASE_URL has none or a wrong one: ${message}`,
      hint: exportUrl(to, "").replace("@", ":PASSWORD@"),
    };
  if (/does not support SSL/.test(message))
    return {
      kind: "configuration",
      code: "tls",
      message: `${where} has no TLS, but DATABASE_URL asks for it with sslmode`,
      hint: exportUrl(to, "?sslmode=disable"),
    };
  if (code !== undefined && UNTRUSTED.has(code))
    return {
      kind: "configuration",
      code: "tls",
      message:
        `the certificate of ${where} cannot be verified: ${message}. Name the provider's CA file with sslrootcert; ` +
        "uselibpqcompat=true&sslmode=require encrypts without verifying, as psql does",
      hint: exportUrl(to, "?sslmode=verify-full&sslrootcert=ca.pem"),
    };
  if ((code !== undefined && NO_SERVER.has(code)) || TIMED_OUT.test(message) || CUT_OFF.test(message))
    return {
      kind: "database",
      code: "database_unreachable",
      message: `no PostgreSQL server answers at ${where}: ${message}`,
      hint: ready,
    };
  return null;
}

/** A certificate or key that an address names and pg would read. */
export function unreadableFile(error: unknown, databaseUrl: string): EmbeddError {
  return configurationError(
    "tls",
    `a file that DATABASE_URL names cannot be read: ${messageOf(error)}`,
    exportUrl(targetOf(databaseUrl), "?sslmode=verify-full&sslrootcert=ca.pem"),
  );
}

/** What to type in a shell to become another role in the same database. */
export function addressAs(databaseUrl: string, user: string): string {
  return exportUrl({ ...targetOf(databaseUrl), user }, "");
}

/** What to type in a shell to use the same database on another server. */
export function addressAt(databaseUrl: string, host: string): string {
  return exportUrl({ ...targetOf(databaseUrl), host }, "");
}

function exportUrl({ user, host, port, database }: Target, query: string): string {
  const [u = "", d = ""] = [user, database].map((part) => encodeURIComponent(part).replaceAll("'", "%27"));
  const at = host.startsWith("/") ? `${encodeURIComponent(host)}:${port}` : hostAndPort({ host, port });
  return `export DATABASE_URL='postgres://${u}@${at}/${d}${query}'`;
}

/** The parts of an address that a user can type again. */
export function targetOf(databaseUrl: string): Target {
  const { user = userInfo().username, host, port, database = user } = addressTarget(databaseUrl);
  return { user, host, port: String(port), database };
}

function codeOf(error: unknown): string | undefined {
  if (error instanceof AggregateError) return codeOf(error.errors[0]);
  const { code } = (typeof error === "object" && error !== null ? error : {}) as { code?: unknown };
  return typeof code === "string" ? code : undefined;
}
