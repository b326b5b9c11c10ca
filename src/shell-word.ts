/** A name as one word of a shell command, in single quotes where it needs them. */
export function shellWord(name: string): string {
  return /^[\w./:@%+=-]+$/.test(name) ? name : `'${name.replaceAll("'", `'\\''`)}'`;
}
