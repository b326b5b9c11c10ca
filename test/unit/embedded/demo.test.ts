import { readdir } from "node:fs/promises";
import { expect, it } from "vitest";
import { BUILT_IN_MODEL, spawnCli } from "../../helpers/cli.js";
import { temporaryFolder } from "../../helpers/programs.js";

/** What the demo printed under a question. */
function answersTo(question: string, stdout: string): { distance: number; source: string }[] {
  const [, after = ""] = stdout.split(`\n${question}\n`);
  const [block = ""] = after.split("\n\n");
  return [...block.matchAll(/^ {2}(\d\.\d{3}) {2}(\S+)\n {9}\S/gm)].map(([, distance, source]) => ({
    distance: Number(distance),
    source: source ?? "",
  }));
}

it("embedd demo embeds real text in an empty folder, answers questions about it, and leaves nothing there", async () => {
  const folder = await temporaryFolder();
  const question = "how do I set a default value for an option?";
  const { code, stdout, stderr } = await spawnCli(["demo", question], { cwd: folder, env: BUILT_IN_MODEL })
    .exited;
  expect(code, stderr).toBe(0);

  const [, rows = ""] = /^inserted (\d+) chunks from \d+ files/m.exec(stdout) ?? [];
  expect(Number(rows)).toBeGreaterThan(100);
  expect(stdout).toMatch(new RegExp(`^${rows} rows embedded, \\d+ rows per second$`, "m"));
  expect(stdout).toMatch(/^inserted one more row: searchable \d+ ms later$/m);
  expect(stderr).toContain(`0% | 0/${rows} rows`);
  expect(stderr).toContain(`100% | ${rows}/${rows} rows`);

  for (const [asked, expected] of [
    ["How do I redact a password in the log?", /^pino\//],
    ["How can I log as JSON without slowing the application down?", /^pino\//],
    ["Which distance functions can be used for nearest neighbor search?", /^pgvector\//],
    [question, /^commander\//],
  ] as const) {
    const answers = answersTo(asked, stdout);
    expect(answers, asked).toHaveLength(3);
    expect(answers[0]?.source).toMatch(expected);
    const distances = answers.map(({ distance }) => distance);
    expect(distances).toEqual(distances.toSorted((a, b) => a - b));
  }
  expect(await readdir(folder)).toEqual([]);
});
