import pg from "pg";

const FORM = "postgres://user:password@host:5432/database";
const ESCAPES = "%25 for %, %2F for /, %23 for #, %3F for ?, %40 for @, %20 for a space";

/**
 * What is wrong with an address of PostgreSQL, and how a correct one looks; null: nothing. It may hold a password
 * anywhere, so nothing of it is repeated.
 */
export function addressProblem(address: string): string | null {
  const problem = findProblem(address);
  return problem === null ? null : `${problem}; it must look like ${FORM}`;
}

function findProblem(address: string): string | null {
  const [, scheme = "", rest] = /^(postgres(?:ql)?:\/\/)?([^]*)$/.exec(address) ?? [];
  if (rest === undefined || scheme === "") return schemeProblem(address);
  const authority = /^[^/?#]*/.exec(rest)?.[0] ?? "";
  const after = rest.slice(authority.length);
  const unescaped = `its user or password has a character that must be escaped: ${ESCAPES}`;
  // A slash, # or ? in a password ends what is read as the host.
  if (after.includes("#")) return unescaped;
  const numeric = /^\/[^?]*@[^?]*\//.test(after) || /^\?[^=]*@/.test(after);
  if (!authority.includes("@") && after.includes("@") && (numeric || !URL.canParse(address)))
    return unescaped;
  const host = authority.slice(authority.lastIndexOf("@") + 1);
  if (host.includes(",")) return "it names several hosts, and embedd connects to one";
  if (/\s/.test(host)) return "its host contains white space";
  if (/:[^\]]*$/.test(host) && !URL.canParse(`postgres://${host}`))
    return "its port is not a number from 1 to 65535";
  if (!URL.canParse(address)) return "its host cannot be read";
  try {
    const { port } = addressTarget(address);
    return port > 0 && port < 65_536 ? null : "its port is not a number from 1 to 65535";
  } catch {
    return unescaped;
  }
}

function schemeProblem(address: string): string {
  if (/^\s/.test(address)) return "it begins with white space";
  if (/^["'`]/.test(address))
    return "it begins with a quotation mark, which belongs to the shell or not at all";
  if (/^postgres(ql)?[:/]/i.test(address)) return "it does not begin with exactly postgres://";
  if (/^\w+\s*=/.test(address)) return "it is a list of keywords and values, and embedd needs an address";
  const other = /^([a-z][a-z0-9+.:]{0,15}):\/\//i.exec(address)?.[1];
  if (other !== undefined) return `it begins with ${other}://`;
  return "it does not begin with postgres://";
}

/** pg escapes an address that matches, before it reads it. */
const NOT_ESCAPED = / |%[^a-f0-9]|%[a-f0-9][^a-f0-9]/i;

/** An address as pg reads it. Read in any other way, it may name another server. */
export function addressUrl(address: string): URL {
  return new URL(NOT_ESCAPED.test(address) ? encodeURI(address).replace(/%25(\d\d)/g, "%$1") : address);
}

export interface AddressTarget {
  user: string | undefined;
  /** A name, an IP address without brackets, or the folder of a Unix socket. */
  host: string;
  port: number;
  database: string | undefined;
}

/** Where pg connects with an address; PGHOST, PGPORT, PGUSER and PGDATABASE fill in what it leaves out. */
export function addressTarget(address: string): AddressTarget {
  const url = addressUrl(address);
  // pg would read the files that other parameters name.
  for (const name of new Set(url.searchParams.keys()))
    if (!["host", "port", "user"].includes(name)) url.searchParams.delete(name);
  const { user, host, port, database } = new pg.Client({ connectionString: url.toString() });
  return { user, host, port, database };
}

/** `host:port`, as in an address. */
export const hostAndPort = ({ host, port }: { host: string; port: number | string }): string =>
  `${host.includes(":") ? `[${host}]` : host}:${port}`;
