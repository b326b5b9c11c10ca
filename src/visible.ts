/**
 * Characters that a terminal obeys instead of showing them: control characters but for tab and newline, and those that
 * reorder a line's text. Texts, names and errors are from others.
 */
const OBEYED = /[\0-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;

/** A text for a terminal. JSON stays the same value. */
export const visible = (text: string): string => text.replace(OBEYED, escaped);

/** A value within a line: it cannot begin another one. */
export const visibleInLine = (text: string): string => visible(text).replaceAll("\n", "\\n");

/** An escape in JSON, as a whole: a backslash that is itself escaped begins none. */
const JSON_ESCAPE = /\\(?:u[0-9a-f]{4}|.)/g;

/** A line of JSON, such that its strings are harmless also for a reader that prints them. */
export const visibleInJson = (line: string): string =>
  line
    .replace(JSON_ESCAPE, (escape) => (/^\\(?:u00|[rbf])/.test(escape) ? `\\${escape}` : escape))
    .replace(OBEYED, (character) => `\\${escaped(character)}`);
