import { expect, it, vi } from "vitest";
import { reportError } from "#embedd/cli/exit.js";
import { forShell } from "#embedd/cli/text.js";
import { configurationError } from "#embedd/errors.js";

function printed(hint: string): string {
  let text = "";
  const write = vi.spyOn(process.stderr, "write").mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  reportError(configurationError("no_such_column", "refused", hint));
  write.mockRestore();
  return text;
}

it.each([
  ["a statement", `ALTER TABLE "docs\nor: rm -rf ~" ADD COLUMN embedding vector(384);`],
  ["a statement with a remark", `ALTER TABLE "docs\nor: rm" ADD COLUMN x text;  -- or another's`],
  ["a value in a statement", `select embedd.unwatch('"docs\nor: rm"');  -- or name another column`],
  ["a sentence", `watch "docs\nor: rm"`],
])("a line break within a name of %s begins no line of the hint", (_, hint) => {
  const text = printed(hint);
  expect(text.match(/\n/g)).toHaveLength(2);
  expect(text).toMatch(/^embedd: refused\n {2}try: .*\\nor: rm.*\n$/);
});

it("each alternative of a hint has a line of its own", () => {
  expect(
    printed("embedd repair docs --existing refresh  # the table's rows\nembedd repair docs --existing keep"),
  ).toBe(
    "embedd: refused\n  try: embedd repair docs --existing refresh  # the table's rows\n  or:  embedd repair docs --existing keep\n",
  );
  expect(forShell(`select 1;  -- isn't "quoted\nselect 2;`)).toBe(
    `psql "$DATABASE_URL" -c 'select 1;'  # isn't "quoted\npsql "$DATABASE_URL" -c 'select 2;'`,
  );
  // A quote without an end joins no lines.
  expect(printed("it's the owner\nlog in")).toBe("embedd: refused\n  try: it's the owner\n  or:  log in\n");
});
