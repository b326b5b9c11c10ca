import { expect, it } from "vitest";
import { parseRecord } from "#embedd/worker/claim/parse-record.js";

it.each([
  ["(1,a)", ["1", "a"]],
  ['("",x)', ["", "x"]],
  ['("a,b","say ""hi""")', ["a,b", 'say "hi"']],
  ['("back\\\\slash","(x)",3)', ["back\\slash", "(x)", "3"]],
])("reads the fields of %s", (text, fields) => {
  expect(parseRecord(text)).toEqual(fields);
});
