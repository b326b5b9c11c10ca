import { expect, it } from "vitest";
import { messageOf } from "#embedd/errors.js";

it("anything that is thrown has a message", () => {
  for (const [thrown, message] of [
    [new Error("no"), "no"],
    [new RangeError(""), "RangeError"],
    [new AggregateError([new Error("one"), { message: "two" }]), "one; two"],
    [new AggregateError([]), "AggregateError"],
    [{ message: "from another realm" }, "from another realm"],
    [{ name: "ErrnoError", errno: 51 }, "ErrnoError 51"],
    [{ code: "ENOSPC" }, "an error without a message ENOSPC"],
    [{ message: 3 }, "an error without a message"],
    [Object.create(null), "an error without a message"],
    ["text", "text"],
    [undefined, "undefined"],
    [null, "null"],
  ] as const) {
    expect(messageOf(thrown)).toBe(message);
  }
});
