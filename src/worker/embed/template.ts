import { configurationError } from "../../errors.js";
import type { Pipeline } from "../../database/pipeline.js";

/** A template, parsed: the literal before each column belongs to it and goes with it when it is NULL. */
export interface Template {
  parts: { literal: string; column: number }[];
  suffix: string;
}

/**
 * Parses `'{title}\n\n{body}'`; `{{` and `}}` are braces, `\n` and `\t` may be written as such.
 * @throws EmbeddError of kind `configuration` that names the column or the place
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

/** Without a template: the columns one below the other. */
export function defaultTemplate(columns: number): Template {
  return {
    parts: Array.from({ length: columns }, (_, column) => ({ literal: column === 0 ? "" : "\n", column })),
    suffix: "",
  };
}

/** A pipeline's own, or the default one. */
export function templateOf({ template, content, contentNames }: Pipeline): Template {
  return template === null ? defaultTemplate(content.length) : parseTemplate(template, contentNames);
}

/** As embedd.pending_predicate has it: nothing but white space. */
export function isBlank(text: string | null | undefined): boolean {
  return text === null || text === undefined || !/[^\s\u0085]/.test(text);
}

/** The text that is embedded. A blank column is left out with the literal before it. */
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
