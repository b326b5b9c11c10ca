import { visible } from "./visible.js";

/** A name as one word of a shell command, in quotes where it needs them. Control characters are escaped, as in Bash. */
export function shellWord(name: string): string {
  if (/^[\w./:@%+=-]+$/.test(name)) return name;
  if (visible(name) === name && !/[\t\n]/.test(name)) return `'${name.replaceAll("'", `'\\''`)}'`;
  const escaped = visible(name.replace(/[\\']/g, "\\$&")).replaceAll("\n", "\\n").replaceAll("\t", "\\t");
  return `$'${escaped}'`;
}
