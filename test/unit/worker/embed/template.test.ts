import { describe, expect, it } from "vitest";
import {
  checkTemplate,
  cutColumn,
  defaultTemplate,
  isBlank,
  parseTemplate,
  renderTemplate,
} from "#embedd/worker/embed/template.js";

describe("a template", () => {
  const columns = ["title", "body"];
  const render = (template: string, values: (string | null)[]) =>
    renderTemplate(parseTemplate(template, columns), values);

  it("puts each column in the place of its name", () => {
    expect(render("{title}\\n\\n{body}", ["A", "b"])).toBe("A\n\nb");
    expect(render("{body} ({title})", ["A", "b"])).toBe("b (A)");
  });

  it("omits a NULL or blank column and the literal before it", () => {
    expect(render("Title: {title}\\nBody: {body}", [null, "b"])).toBe("Body: b");
    expect(render("Title: {title}\\nBody: {body}", ["A", " \u3000\n"])).toBe("Title: A");
    expect(render("{title}\\n\\n{body}.", [null, null])).toBe("");
  });

  it("reads doubled braces as braces", () => {
    expect(render("{{{title}}}", ["A", null])).toBe("{A}");
  });

  it("does not read a value for placeholders", () => {
    expect(render("{title} {body}", ["{body}", "$1"])).toBe("{body} $1");
  });

  it("refuses an unknown column and a lone brace, by name", () => {
    expect(() => parseTemplate("{titel}", columns)).toThrow(/\{titel\}.*title, body/);
    expect(() => parseTemplate("{title", columns)).toThrow(/lone \{/);
    expect(() => parseTemplate("a } b", columns)).toThrow(/lone \}/);
  });

  it("is refused before it is stored if it names no column", () => {
    const check = (template: string) => () => {
      checkTemplate(template, columns);
    };
    expect(check("{{title}}: {{body}}")).toThrow(/names no content column/);
    expect(check("{titel}")).toThrow(/\{titel\}/);
    expect(check("about {body}")).not.toThrow();
  });

  it("is not needed: the columns are then joined line by line", () => {
    expect(renderTemplate(defaultTemplate(3), ["a", null, "c"])).toBe("a\nc");
    expect(renderTemplate(defaultTemplate(1), ["  as it is "])).toBe("  as it is ");
  });

  it("gets the first characters of a column, as PostgreSQL counts them", () => {
    expect(cutColumn("\u{1f600}bc", 2)).toBe("\u{1f600}b");
    expect(cutColumn("abc", 3)).toBe("abc");
    expect(cutColumn("abc", 2)).toBe("ab");
    expect(cutColumn(null, 2)).toBeNull();
  });

  it("defines blank as SQL does", () => {
    expect(["", " \t\r\n\f\v", "\u00a0\u2003\u3000\ufeff\u0085", null].map(isBlank)).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect(["a", " . ", "\u200b", "日"].map(isBlank)).toEqual([false, false, false, false]);
  });
});
