/** The fields of a record in PostgreSQL's text form, such as `(1,"a, b")`. None of them may be NULL. */
export function parseRecord(text: string): string[] {
  const fields: string[] = [];
  let field = "";
  let quoted = false;
  for (let i = 1; i < text.length - 1; i++) {
    const character = text[i] ?? "";
    if (character === "\\" || (character === '"' && quoted && text[i + 1] === '"')) field += text[++i] ?? "";
    else if (character === '"') quoted = !quoted;
    else if (character === "," && !quoted) {
      fields.push(field);
      field = "";
    } else field += character;
  }
  return [...fields, field];
}
