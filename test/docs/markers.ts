import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { format, resolveConfig } from "prettier";

export const root = fileURLToPath(new URL("../..", import.meta.url));

const path = `${root}/docs/reference.md`;

/** docs/reference.md with new text between its markers `<!-- begin NAME -->` and `<!-- end NAME -->`. */
async function withParts(parts: Readonly<Record<string, string>>): Promise<string> {
  let page = await readFile(path, "utf8");
  for (const [name, text] of Object.entries(parts)) {
    const [begin, end] = [`<!-- begin ${name} -->`, `<!-- end ${name} -->`];
    const [from, to] = [page.indexOf(begin), page.indexOf(end)];
    if (from < 0 || to < from) throw new Error(`docs/reference.md has no markers ${begin} … ${end}`);
    page = `${page.slice(0, from + begin.length)}\n\n${text.trim()}\n\n${page.slice(to)}`;
  }
  const options = await resolveConfig(path);
  return format(page, { ...options, parser: "markdown", proseWrap: "always" });
}

/**
 * Compares the page's generated parts with the source that they come from. `npm run docs` writes them, since
 * the page is a snapshot.
 */
export async function expectGenerated(parts: Readonly<Record<string, string>>): Promise<void> {
  await expect(await withParts(parts), "docs/reference.md is out of date: npm run docs").toMatchFileSnapshot(
    path,
  );
}

/** Outside of backticks, <name> is not HTML, and _ and * are not emphasis. */
export function escapeMarkdown(text: string): string {
  return text
    .split("`")
    .map((part, i) => (i % 2 === 1 ? part : part.replace(/[<*]|(?<!\w)_|_(?!\w)/g, "\\$&")))
    .join("`");
}
