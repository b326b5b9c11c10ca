import fc from "fast-check";
import { Tokenizer } from "tokenizers";
import { beforeAll, expect, it } from "vitest";
import { boundForAny, boundForWordPiece } from "#embedd/providers/local/long-text.js";
import { defaultManifest } from "#embedd/providers/local/manifest.js";

const MAX_TOKENS = 256;
let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = Tokenizer.fromFile((await defaultManifest()).tokenizerPath);
  tokenizer.setTruncation(MAX_TOKENS);
  tokenizer.disablePadding();
});

async function ids(text: string): Promise<number[]> {
  return (await tokenizer.encode(text)).getIds();
}

it.each([
  ["words", "These are words, and more of them. ".repeat(500)],
  ["a wall of spaces, then words", `start${" ".repeat(90_000)}end of it`],
  ["a word too long for any vocabulary, then words", `start ${"x".repeat(90_000)} end of it`],
  ["a long word in pieces", `${"x".repeat(9000)}.${"y".repeat(90)}${"z".repeat(9000)}-tail`],
  ["letters between Chinese characters", "漢abcdefghij".repeat(3000)],
  ["special tokens spelled out", "[SEP] [CLS][MASK] ".repeat(900)],
  ["controls between letters", `${"a\0b\u0001".repeat(2500)} then words`],
  ["punctuation", "?!".repeat(9000)],
  ["spaces between emoji", "🚀   \n\n".repeat(3000)],
])("cuts %s without changing a token", async (_, text) => {
  expect(text.length).toBeGreaterThan(8192);
  const bounded = boundForWordPiece(text, MAX_TOKENS).text;
  expect(bounded.length).toBeLessThanOrEqual(16_384);
  expect(await ids(bounded)).toEqual(await ids(text));
});

it("changes no token of made-up texts", async () => {
  const piece = fc.constantFrom(
    "word",
    "x".repeat(150),
    " ",
    "   ",
    "\n",
    "é",
    "漢",
    "—",
    "'",
    "\0",
    "\u0301",
    "42",
  );
  const text = fc.array(piece, { minLength: 20, maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(text, fc.integer({ min: 1, max: 30 }), async (pieces, repeats) => {
      const long =
        pieces
          .map((part) => part.repeat(repeats))
          .join("")
          .repeat(8) + "x".repeat(8192);
      expect(await ids(boundForWordPiece(long, MAX_TOKENS).text)).toEqual(await ids(long));
    }),
    { numRuns: 60 },
  );
});

it("never splits a surrogate pair", () => {
  for (const offset of ["", "a"]) {
    const rockets = offset + "🚀".repeat(50_000);
    // With the u flag, half a pair does not match.
    expect(boundForAny(rockets).text).toMatch(/🚀$/u);
    expect(boundForWordPiece(rockets, MAX_TOKENS).text).toMatch(/🚀$/u);
  }
});
