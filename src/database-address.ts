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
  return null;
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
