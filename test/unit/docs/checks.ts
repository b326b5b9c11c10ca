import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { readMarkdown } from "./markdown.js";
import type { Markdown } from "./markdown.js";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

export interface Document extends Markdown {
  /** From the root of the repository, such as `docs/models.md`. */
  path: string;
}

/** All documentation, read from the files. */
export function readDocuments(): Document[] {
  const pages = readdirSync(join(ROOT, "docs"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".md"))
    .map((file) => `docs/${file}`);
  return ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", ...pages.sort()].map((path) => ({
    path,
    ...readMarkdown(readFileSync(join(ROOT, path), "utf8")),
  }));
}

/** The lines of everything that can print a command or run one. */
export function sourceLines(): string[] {
  const inside = ["src", "migrations", ".ci"].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" }).map((file) => join(folder, file)),
  );
  return [...inside, "package.json", "docker-compose.yml"]
    .map((path) => join(ROOT, path))
    .filter((path) => statSync(path).isFile())
    .flatMap((path) => readFileSync(path, "utf8").split("\n"));
}

const NO_HEADING = "there is no such heading";

/** What is wrong with a link to a file or an anchor; null for a good one and for addresses. */
export function linkProblem(from: Pick<Document, "path" | "anchors">, link: string): string | null {
  if (/^[a-z]+:/.test(link)) return null;
  const [path = "", anchor] = link.split("#");
  if (path === "") return from.anchors.has(anchor ?? "") ? null : NO_HEADING;
  const target = resolve(ROOT, dirname(from.path), path);
  if (relative(ROOT, target).startsWith("..")) return "it leaves the repository";
  if (!existsSync(target)) return "there is no such file";
  if (anchor === undefined) return null;
  if (statSync(target).isDirectory() || !target.endsWith(".md")) return "only Markdown has anchors";
  return readMarkdown(readFileSync(target, "utf8")).anchors.has(anchor) ? null : NO_HEADING;
}

/** Phrases that an English reader stumbles over. */
const DIALECT: readonly RegExp[] = [
  /\bgo(?:es)? on\b/i,
  /\bbeside\b/i,
  /\bso many\b/i,
  /\bfor ever\b/i,
  /\bwhatever\b/i,
  /(?:^|[.:;!?]\s+|\n\s*[-*|]\s*)Who\b(?![^.]*\?)/,
  /\b(?:is|are) to be\b/i,
  /\bmend(?:s|ed|ing)?\b/i,
  /\banew\b/i,
  /\bby (?:itself|themselves)\b/i,
  /\bhow far (?:it|they) (?:is|are)\b/i,
  /\ba line (?:each|a second)\b/i,
  /\bsome (?:hundred|thousand|\d)/i,
  /\bpresent model\b/i,
  /\bkept vectors\b/i,
];

export function dialectPhrases(prose: string): string[] {
  const text = prose.replace(/(?<!\n)\n(?![\n|#*-])/g, " ");
  return DIALECT.flatMap((pattern) => pattern.exec(text)?.[0].trim() ?? []);
}

/**
 * Calls that install or run another project's npm package, wherever ours is not installed: the package `embedd` is not
 * ours, and a runner such as npx fetches the package of a command that it does not find.
 */
export const otherPackage = (shown: readonly string[]): string[] => {
  const runner = String.raw`npx|bunx|npm\s+(?:exec|x)|(?:pnpm|yarn)\s+dlx`;
  const installer = String.raw`(?:npm|pnpm|yarn|bun)\s+(?:global\s+)?(?:install|i|add)`;
  const call = new RegExp(String.raw`\b(?:${runner}|${installer})\s+(?:-\S+\s+)*(?:-p\s+)?embedd(?![\w.-])`);
  return shown.filter((command) => call.test(command));
};

export const MAX_ROW = 120;

export const longRows = (rows: readonly string[]): string[] =>
  rows.filter((row) => Array.from(row).length > MAX_ROW);

/** Commands that are neither run nor explained, and entries of the lists that no document shows. */
export function unlisted(
  shown: readonly string[],
  run: readonly string[],
  notRun: Readonly<Record<string, string>>,
): { missing: string[]; stale: string[]; twice: string[] } {
  const listed = [...run, ...Object.keys(notRun)];
  return {
    missing: shown.filter((command) => !listed.includes(command)),
    stale: listed.filter((command) => !shown.includes(command)),
    twice: listed.filter((command, i) => listed.indexOf(command) !== i),
  };
}
