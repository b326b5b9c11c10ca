import { expect, it } from "vitest";
import { parameters } from "#embedd/database/parameters.js";

it("values are numbered in the order in which they are bound", () => {
  const { values, bind } = parameters();
  const p = { id: bind(7), keys: bind(["a", "b"]) };
  expect(p).toEqual({ id: "$1", keys: "$2" });
  expect(bind(null)).toBe("$3");
  expect(values).toEqual([7, ["a", "b"], null]);
});
