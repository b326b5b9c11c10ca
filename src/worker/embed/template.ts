import { configurationError } from "../../errors.js";
import type { Pipeline } from "../../database/pipeline.js";

/** A parsed template. The literal before a column belongs to the column and is left out with it if it is blank. */
export interface Template {
  parts: { literal: string; column: number }[];
  suffix: string;
}

/**
 * Parses `'{title}\n\n{body}'`. `{{` and `}}` stand for braces, a literal `\n` and `\t` for a newline and a tab.
 * @throws EmbeddError of kind `configuration` that names the unknown column or the lone brace
 */
export function parseTemplate(template: string, columns: readonly string[]): Template {
  const parts: Template["parts"] = [];
  let literal = "";
  let last = 0;
  for (const match of template.matchAll(/\{\{|\}\}|\\n|\\t|\{([^{}]*)\}|[{}]/g)) {
    literal += template.slice(last, match.index);
    last = match.index + match[0].length;
    const token = match[0];
    if (match[1] !== undefined) {
      const column = columns.indexOf(match[1]);
      if (column < 0) {
        throw configurationError(
          "template",
          `the template names {${match[1]}}, which is not among the content columns ${columns.join(", ")}`,
          `name it with --content, or take it out of the template`,
        );
      }
      parts.push({ literal, column });
      literal = "";
    } else if (token === "{" || token === "}") {
      throw configurationError(
        "template",
        `the template has a lone ${token}`,
        `write ${token}${token} for a brace`,
      );
    } else {
      literal += { "{{": "{", "}}": "}", "\\n": "\n", "\\t": "\t" }[token] ?? "";
    }
  }
  return { parts, suffix: literal + template.slice(last) };
}

/**
 * Checks a template before it is stored.
 * @throws EmbeddError of kind `configuration` if it is invalid, or would make every text blank
 */
export function checkTemplate(template: string, columns: readonly string[]): void {
  const [column] = columns;
  if (column === undefined || parseTemplate(template, columns).parts.length > 0) return;
  throw configurationError(
    "template",
    `the template ${template} names no content column, so every text would be blank`,
    `write {${column}} for the column's text`,
  );
}

/** Without a template: each column on its own line. */
export function defaultTemplate(columns: number): Template {
  return {
    parts: Array.from({ length: columns }, (_, column) => ({ literal: column === 0 ? "" : "\n", column })),
    suffix: "",
  };
}

/**
 * The pipeline's template, or the default one.
 * @throws EmbeddError of kind `configuration` if the template is invalid
 */
export function templateOf({ template, content, contentNames }: Pipeline): Template {
  return template === null ? defaultTemplate(content.length) : parseTemplate(template, contentNames);
}

/** Nothing but white space, by the same definition as embedd.pending_predicate. */
export function isBlank(text: string | null | undefined): boolean {
  return text === null || text === undefined || !/[^\s\u0085]/.test(text);
}

/** The first `maxChars` characters of a column's text, counted as PostgreSQL does: a surrogate pair is one. */
export function cutColumn(value: string | null, maxChars: number): string | null {
  if (value === null || value.length <= maxChars) return value;
  let at = 0;
  for (let count = 0; count < maxChars && at < value.length; count++)
    at += (value.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
  return value.slice(0, at);
}

/** The text to embed. A blank column is left out together with the literal before it. */
export function renderTemplate(template: Template, values: readonly (string | null)[]): string {
  let text = "";
  for (const { literal, column } of template.parts) {
    const value = values[column];
    if (value !== null && value !== undefined && !isBlank(value)) {
      text += (text === "" ? literal.trimStart() : literal) + value;
    }
  }
  return text === "" ? "" : text + template.suffix;
}
