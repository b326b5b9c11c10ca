import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { shellWord } from "#embedd/shell-word.js";

const run = promisify(execFile);

it.each(["docs", "public.docs", `"Some Docs"`, `it's`, `a"b$c\`d`, "{title}\\n{body}", "a;b&c|d", "Bücher"])(
  "quotes %s so that a shell reads it as one word",
  async (name) => {
    const { stdout } = await run("sh", ["-c", `printf '<%s>' ${shellWord(name)}`]);
    expect(stdout).toBe(`<${name}>`);
  },
);

it.each(["two\nlines", "an escape \u001b[2J", "a tab\t", "it's \\ \r\n"])(
  "quotes %j so that Bash reads it as one word and no terminal obeys it",
  async (name) => {
    const word = shellWord(name);
    expect(word).not.toMatch(/[\0-\u001f]/);
    const { stdout } = await run("bash", ["-c", `printf '<%s>' ${word}`]);
    expect(stdout).toBe(`<${name}>`);
  },
);

it("leaves plain names unquoted", () => {
  expect(shellWord("public.docs")).toBe("public.docs");
});
