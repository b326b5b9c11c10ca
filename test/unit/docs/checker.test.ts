import { beforeAll, describe, expect, it } from "vitest";
import { dialectPhrases, linkProblem, longRows, otherPackage, unlisted } from "./checks.js";
import { embeddCalls, loadProgram, mentionProblem, parseProblem, shellWords } from "./command-line.js";
import type { CreateProgram } from "./command-line.js";
import { readMarkdown, slugOf } from "./markdown.js";

const SAMPLE = [
  "# A title",
  "## Same & same",
  "## Same & same",
  "Text with [a link](LICENSE), ![an image](docs/row-path.svg), `[no](link)` and `embedd",
  "status`.",
  "```sh",
  "# a comment",
  "embedd watch docs \\",
  "  --content body   # once",
  "```",
  "```text",
  "[no](link) `no code`",
  "```",
  "| a | b |",
].join("\n");

describe("reading Markdown", () => {
  const sample = readMarkdown(SAMPLE);

  it("finds anchors, links, commands, code and rows, and nothing in other blocks", () => {
    expect([...sample.anchors]).toEqual(["a-title", "same--same", "same--same-1"]);
    expect(sample.links).toEqual(["LICENSE", "docs/row-path.svg"]);
    expect(sample.commands).toEqual(["embedd watch docs --content body"]);
    expect(sample.code).toEqual(["[no](link)", "embedd status"]);
    expect(sample.tableRows).toEqual(["| a | b |"]);
    expect(sample.prose).not.toContain("link)");
  });

  it("makes anchors as GitHub does", () => {
    expect(slugOf("The wake protocol")).toBe("the-wake-protocol");
    expect(slugOf("0.1.0: unreleased (2026)")).toBe("010-unreleased-2026");
    expect(slugOf("See [docs](docs/x.md), `code_x`")).toBe("see-docs-code_x");
  });

  it("refuses a block without an end", () => {
    expect(() => readMarkdown("```sh\nembedd run")).toThrow("no end");
  });
});

describe("the checks refuse", () => {
  const from = { path: "docs/sample.md", anchors: new Set(["here"]) };

  it.each([
    ["no-such-file.md", "there is no such file"],
    ["#nowhere", "there is no such heading"],
    ["../README.md#nowhere", "there is no such heading"],
    ["../../etc/passwd", "it leaves the repository"],
    ["../LICENSE#here", "only Markdown has anchors"],
  ])("the link %s", (link, problem) => {
    expect(linkProblem(from, link)).toBe(problem);
  });

  it.each(["#here", "../README.md#try-it", "../src/worker/wake/", "https://example.org/x#y"])(
    "but not the link %s",
    (link) => {
      expect(linkProblem(from, link)).toBeNull();
    },
  );

  it.each([
    "the worker goes on",
    "so many\nrows",
    "It waits for ever.",
    "after whatever restart",
    "First. Who waits for a backlog need not wait.",
    "a key that is to be read",
    "which variable to mend",
    "it starts anew",
    "a row embeds by itself",
    "says how far it is",
    "checks it, a line each",
    "some hundred rows",
  ])("the phrase in: %s", (prose) => {
    expect(dialectPhrases(prose)).toHaveLength(1);
  });

  it.each(["Rows that embed themselves.", "It runs on.", "Anyone who reads this; who wins?", "recommended"])(
    "but not: %s",
    (prose) => {
      expect(dialectPhrases(prose)).toEqual([]);
    },
  );

  it("a row of a table that is too wide", () => {
    expect(longRows([`|${"…".repeat(119)}`, `|${"x".repeat(120)}`])).toHaveLength(1);
  });

  it.each([
    ["npx embedd run", true],
    ["A=1 npx --yes embedd run", true],
    ["npx -p embedd embedd run", true],
    ["npx embedd@latest run", true],
    ["npm exec embedd", true],
    ["pnpm dlx embedd", true],
    ["npm install embedd@latest", true],
    ["npm i -g embedd", true],
    ["yarn global add embedd", true],
    ["npm install -g ./pg-embedd-0.1.0.tgz", false],
    ["npm install pg-embedd@latest", false],
    ["npx vitest run", false],
    ["embedd run", false],
  ])("the npm package embedd: %s", (command, found) => {
    expect(otherPackage([command])).toHaveLength(found ? 1 : 0);
  });

  it("commands that are not listed, and lists that are not up to date", () => {
    expect(unlisted(["a", "b"], ["a", "c"], { c: "reason", d: "reason" })).toEqual({
      missing: ["b"],
      stale: ["c", "c", "d"],
      twice: ["c"],
    });
  });
});

describe("command lines", () => {
  let createProgram: CreateProgram;
  beforeAll(async () => {
    createProgram = await loadProgram();
  });

  it("are found behind variables and in chains", () => {
    expect(embeddCalls("A=1 B='x y' embedd run --once && npm test; embedd status | cat")).toEqual([
      ["run", "--once"],
      ["status"],
    ]);
    expect(shellWords(`watch "a b" --template '{x} "y"'`)).toEqual(["watch", "a b", "--template", '{x} "y"']);
  });

  it.each([
    ["wach docs", "unknown command"],
    ["run --onse", "unknown option"],
    ["watch docs", "required option"],
    ["watch docs --content body --index btree", "choices"],
    ["status docs", "too many arguments"],
    ["search x --limit many", "whole number"],
  ])("are refused when they are wrong: %s", (line, problem) => {
    expect(parseProblem(createProgram, shellWords(line))).toContain(problem);
  });

  it.each(["run --once --database-url postgres://x", "watch docs --content a b", "--help", "pause docs"])(
    "are accepted when they are right: %s",
    (line) => {
      expect(parseProblem(createProgram, shellWords(line))).toBeNull();
    },
  );

  it("may be mentioned without their arguments, but not with other names", () => {
    expect(mentionProblem(createProgram, ["watch", "--model"])).toBeNull();
    expect(mentionProblem(createProgram, ["…"])).toBeNull();
    expect(mentionProblem(createProgram, ["kill"])).toBe("no command kill");
    expect(mentionProblem(createProgram, ["status", "--once"])).toBe("status has no flag --once");
  });
});
