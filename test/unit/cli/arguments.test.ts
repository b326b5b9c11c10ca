import { expect, it } from "vitest";
import { columnNames } from "#embedd/cli/arguments.js";

it.each<[string, string[] | undefined, string[]]>([
  ["title", undefined, ["title"]],
  ["body", ["title"], ["title", "body"]],
  ["title,body", undefined, ["title", "body"]],
  ["título, cuerpo", undefined, ["título", "cuerpo"]],
  ['a "name", with a comma', undefined, ['a "name", with a comma']],
])("the columns of %s after %j", (text, before, names) => {
  expect(columnNames(text, before)).toEqual(names);
});
