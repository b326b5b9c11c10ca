import { expect, it } from "vitest";
import { ownFile } from "#embedd/own-file.js";

it("finds a file that exists", () => {
  expect(ownFile(import.meta.url, "./own-file.test.ts", "this test").pathname).toMatch(/own-file\.test\.ts$/);
});

it.each([
  ["the file is missing", import.meta.url],
  ["the bundle has no address of its own", undefined],
  ["the bundle's address is not a file's", "webpack://app/program.js"],
])("names the reason and the cure when %s", (_, base) => {
  expect(() => ownFile(base, "./missing.js", "embedd's migrations")).toThrow(
    expect.objectContaining({
      code: "bundled",
      kind: "configuration",
      message: expect.stringMatching(/^embedd's migrations .*bundle.*external/) as string,
      hint: "npm install pg-embedd",
    }) as Error,
  );
});
