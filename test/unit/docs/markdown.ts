/** What the checks of the documentation need to know of a Markdown file. */
export interface Markdown {
  /** The anchors that GitHub gives to the headings. */
  anchors: ReadonlySet<string>;
  /** Targets of links and images, as they are written. */
  links: readonly string[];
  /** Command lines of fenced blocks marked `sh`, without comments; continued lines are joined. */
  commands: readonly string[];
  /** Contents of inline code, on one line each. */
  code: readonly string[];
  /** The text without code and link targets, its line breaks kept. */
  prose: string;
  /** Lines of tables. */
  tableRows: readonly string[];
}

export function readMarkdown(text: string): Markdown {
  const lines: string[] = [];
  const shell: string[] = [];
  let fence: string | null = null;
  for (const line of text.split("\n")) {
    const mark = /^\s*```(\w*)/.exec(line);
    if (mark !== null) fence = fence === null ? (mark[1] ?? "") : null;
    else if (fence === null) lines.push(line);
    else if (fence === "sh") shell.push(line);
  }
  if (fence !== null) throw new Error("a fenced block has no end");
  const outside = lines.join("\n");
  const withoutCode = outside.replace(/`[^`]*`/g, "");
  return {
    anchors: anchorsOf(lines),
    links: [...withoutCode.matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1] ?? ""),
    commands: commandLines(shell),
    code: [...outside.matchAll(/`([^`]+)`/g)].map((match) => (match[1] ?? "").replace(/\s+/g, " ").trim()),
    prose: withoutCode.replace(/\]\([^)\s]+\)/g, "]"),
    tableRows: lines.filter((line) => line.startsWith("|")),
  };
}

function anchorsOf(lines: readonly string[]): Set<string> {
  const anchors = new Set<string>();
  for (const line of lines) {
    const heading = /^#{1,6}\s+(.+?)\s*$/.exec(line)?.[1];
    if (heading === undefined) continue;
    const slug = slugOf(heading);
    let anchor = slug;
    for (let n = 1; anchors.has(anchor); n++) anchor = `${slug}-${n}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** As GitHub does it: links keep their text, punctuation goes, each space becomes a hyphen. */
export function slugOf(heading: string): string {
  return heading
    .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\p{M}_\- ]/gu, "")
    .replaceAll(" ", "-");
}

function commandLines(lines: readonly string[]): string[] {
  return lines
    .join("\n")
    .replace(/\\\n\s*/g, "")
    .split("\n")
    .map((line) => line.replace(/\s+#\s.*$/, "").trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
}
