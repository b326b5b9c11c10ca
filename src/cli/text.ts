/** Whether a quoted `schema.table` is what the user calls `table` or `schema.table`; all are where nothing is named. */
export function matchesTable(relation: string, name: string | undefined): boolean {
  return name === undefined || relation === name || relation.endsWith(`.${name}`);
}

/** One line of at most `length` characters. */
export function excerpt(text: string, length: number): string {
  const line = text.replace(/\s+/g, " ").trim();
  const characters = Array.from(line);
  return characters.length <= length ? line : `${characters.slice(0, length - 1).join("")}…`;
}
