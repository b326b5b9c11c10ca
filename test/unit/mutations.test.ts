import { existsSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { MUTATIONS } from "../mutations/table.js";

const at = (path: string): URL => new URL(`../../${path}`, import.meta.url);

it("each mutation's text is in its file once, and its tests are there", () => {
  const wrong = MUTATIONS.flatMap(({ breaks, file, find, replace, tests }) => {
    const parts = readFileSync(at(file), "utf8").split(find).length - 1;
    const missing = tests.filter((test) => !existsSync(at(test)));
    return parts === 1 && find !== replace && missing.length === 0
      ? []
      : [
          `${file}: ${breaks}: the text is there ${parts} times; missing tests: ${missing.join(", ") || "none"}`,
        ];
  });
  expect(wrong).toEqual([]);
});

it("no two mutations are the same", () => {
  const keys = MUTATIONS.map(({ file, find, replace }) => `${file}\n${find}\n${replace}`);
  expect(keys.filter((key, i) => keys.indexOf(key) !== i)).toEqual([]);
});
