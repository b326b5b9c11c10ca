import { beforeAll, describe, expect, it } from "vitest";
import {
  dialectPhrases,
  linkProblem,
  longRows,
  otherPackage,
  readDocuments,
  sourceLines,
  unlisted,
} from "./checks.js";
import { embeddCalls, loadProgram, mentionProblem, parseProblem, shellWords } from "./command-line.js";
import type { CreateProgram } from "./command-line.js";
import { NOT_RUN, NOT_RUN_DOCUMENTS, RUN } from "./commands.js";

const documents = readDocuments();

describe.each(documents)("$path", (document) => {
  it("has links and anchors that resolve", () => {
    const broken = document.links.flatMap((link) => {
      const problem = linkProblem(document, link);
      return problem === null ? [] : [`${link}: ${problem}`];
    });
    expect(broken).toEqual([]);
  });

  it("is plain English", () => {
    expect(dialectPhrases(document.prose)).toEqual([]);
  });

  it("has no table row wider than a screen", () => {
    expect(longRows(document.tableRows)).toEqual([]);
  });

  it("never calls the npm package embedd, which is another project", () => {
    expect(otherPackage([...document.commands, ...document.code])).toEqual([]);
  });
});

it("no hint, script or migration calls the npm package embedd", () => {
  const lines = sourceLines();
  expect(lines.length).toBeGreaterThan(5_000);
  expect(otherPackage(lines)).toEqual([]);
});

describe("the commands that the documentation shows", () => {
  let createProgram: CreateProgram;
  beforeAll(async () => {
    createProgram = await loadProgram();
  });

  it("are run by a test, or listed with a reason", () => {
    const paths = documents.map(({ path }) => path);
    expect(Object.keys(NOT_RUN_DOCUMENTS).filter((path) => !paths.includes(path))).toEqual([]);
    const shown = documents
      .filter(({ path }) => NOT_RUN_DOCUMENTS[path] === undefined)
      .flatMap(({ commands }) => commands);
    expect(unlisted(shown, RUN, NOT_RUN)).toEqual({ missing: [], stale: [], twice: [] });
  });

  it.each(documents)("parse: $path", ({ commands, code }) => {
    const problems = [
      ...commands.flatMap(embeddCalls).map((args) => ({ args, problem: parseProblem(createProgram, args) })),
      ...code
        .filter((span) => /^embedd\s/.test(span))
        .map((span) => shellWords(span).slice(1))
        .map((args) => ({ args, problem: mentionProblem(createProgram, args) })),
    ];
    expect(problems.filter(({ problem }) => problem !== null)).toEqual([]);
  });
});

describe("README.md", () => {
  const readme = documents.find(({ path }) => path === "README.md");

  it("shows the command that continuous integration runs", () => {
    expect(readme?.commands).toContain("npm ci && npm test");
  });
});
