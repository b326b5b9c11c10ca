import fc from "fast-check";
import { countTokens, encode } from "gpt-tokenizer/encoding/cl100k_base";
import { beforeAll, describe, expect, it } from "vitest";
import { estimatingCounter, loadCl100k } from "#embedd/providers/openai/tokens.js";
import type { FittedText, TokenCounter } from "#embedd/providers/openai/tokens.js";
import { numbered, start } from "./start.js";

const plain = { allowedSpecial: new Set<string>(), disallowedSpecial: new Set<string>() };
const reference = (text: string): number => countTokens(text, plain);

let counter: TokenCounter;
beforeAll(async () => {
  counter = await loadCl100k();
});

async function fitOne(text: string, limit: number | null): Promise<FittedText> {
  const [fitted] = await counter.fit([text], limit);
  if (fitted === undefined) throw new Error("nothing came back");
  return fitted;
}

describe("counting", () => {
  it.each([
    ["", 0],
    ["hello world", 2],
    ["<|endoftext|>", 7],
    ["The quick brown fox jumps over the lazy dog.", 10],
  ])("%j is %i tokens", async (text, tokens) => {
    expect(await fitOne(text, null)).toEqual({ text, tokens, cut: false });
  });

  it("in pieces gives the same as at once, for words with single spaces", async () => {
    const word = fc
      .string({ unit: "grapheme", minLength: 1, maxLength: 12 })
      .map((s) => s.replace(/\s/gu, "_"));
    await fc.assert(
      fc.asyncProperty(fc.array(word, { minLength: 200, maxLength: 600 }), async (words) => {
        const text = words.join(" ");
        expect((await fitOne(text, null)).tokens).toBe(reference(text));
      }),
      { numRuns: 30 },
    );
  });

  it("is at most a few tokens too high where there are no spaces", async () => {
    for (const text of [
      "漢字仮名交じり文".repeat(2_000),
      "x".repeat(20_000),
      "=-".repeat(5_000),
      "\n\t ".repeat(5_000),
      "👩‍👩‍👧‍👦".repeat(900),
    ]) {
      const { tokens } = await fitOne(text, null);
      const right = reference(text);
      expect(tokens).toBeGreaterThanOrEqual(right);
      expect(tokens).toBeLessThanOrEqual(right * 1.05 + 5);
    }
  });
});

describe("cutting", () => {
  it("ends at a token within the limit, and never splits a character", async () => {
    const text = fc.oneof(
      fc.string({ unit: "grapheme", maxLength: 400 }),
      fc.lorem({ maxCount: 80 }),
      fc.string({ unit: fc.constantFrom("👩‍👩‍👧‍👦", "é", "漢", " ", "\n", "a", "9"), maxLength: 300 }),
    );
    await fc.assert(
      fc.asyncProperty(text, fc.integer({ min: 1, max: 60 }), async (whole, limit) => {
        const { text: kept, tokens, cut } = await fitOne(whole, limit);
        expect(whole.startsWith(kept)).toBe(true);
        expect(kept.isWellFormed()).toBe(true);
        expect(reference(kept)).toBeLessThanOrEqual(limit);
        expect(tokens).toBeLessThanOrEqual(limit);
        expect(cut).toBe(kept.length < whole.length);
        if (!cut) expect(reference(whole)).toBeLessThanOrEqual(limit);
      }),
      { numRuns: 300 },
    );
  });

  it("keeps exactly the tokens that the model reads of a long text", async () => {
    const whole = Array.from({ length: 12_000 }, (_, i) => `word${i % 7}`).join(" ");
    const { text } = await fitOne(whole, 8_191);
    expect(encode(text, plain)).toEqual(encode(whole, plain).slice(0, 8_191));
  });
});

describe("512 texts of 64,000 characters", () => {
  it("of any kind never block the main loop for long", async () => {
    const random = (alphabet: string[]): string =>
      Array.from({ length: 64_000 }, (_, i) => alphabet[(i * i * 31 + i * 7) % alphabet.length] ?? "").join(
        "",
      );
    const kinds = [
      "The quick brown fox jumps over the lazy dog. ".repeat(1_423),
      "x".repeat(64_000),
      random(Array.from("abcdefghijklmnopqrstuvwxyz0123456789+/")),
      random(Array.from({ length: 2_000 }, (_, i) => String.fromCodePoint(0x4e00 + i))),
      " ".repeat(64_000),
      "👩‍👩‍👧‍👦".repeat(5_800),
    ];
    const { provider } = await start();
    let done = false;
    const counting = provider
      .countTokens(Array.from({ length: 512 }, (_, i) => kinds[i % kinds.length] ?? ""))
      .finally(() => (done = true));
    // By processor time, since a busy machine stops any process now and then.
    let longTurns = 0;
    let longestMs = 0;
    while (!done) {
      const before = process.cpuUsage();
      await new Promise((resolve) => setImmediate(resolve));
      const { user, system } = process.cpuUsage(before);
      const ms = (user + system) / 1_000;
      longestMs = Math.max(longestMs, ms);
      if (ms > 50) longTurns++;
    }
    expect(await counting).toHaveLength(512);
    // A garbage collection takes a turn now and then. Texts that are not sliced take one each.
    expect(longTurns).toBeLessThan(20);
    expect(longestMs).toBeLessThan(2_000);
  });
});

describe("a text beyond the limit", () => {
  const long = "word ".repeat(9_000);

  it("is cut, which is logged once", async () => {
    const said: object[] = [];
    const log = { debug: () => undefined, warn: (details: object) => void said.push(details) };
    const { provider, server } = await start({}, { log });
    await provider.embed(["short", long]);
    await provider.embed([long]);
    expect(reference(server.requests[0]?.texts[1] ?? "")).toBe(8_191);
    expect(said).toEqual([{ model: "text-embedding-3-small", limitTokens: 8_191, texts: 1, total: 1 }]);
    expect(await provider.countTokens(["short", long])).toEqual([1, 8_191]);
  });

  it("is refused alone, without a request, if so configured", async () => {
    const { provider, server } = await start({}, { longText: "refuse" });
    await expect(provider.embed(["short", long])).rejects.toMatchObject({ kind: "row", code: "too_long" });
    await expect(provider.embed([long])).rejects.toMatchObject({ kind: "row", code: "too_long" });
    await expect(provider.embed(["short"])).resolves.toHaveLength(1);
    expect(server.requests.map((r) => r.texts)).toEqual([["short"]]);
  });
});

describe("requests", () => {
  it("are split by inputs and by tokens", async () => {
    const { provider, server } = await start(
      { latencyMs: 20 },
      { requestInputs: 30, requestTokens: 200, concurrency: 3 },
    );
    const texts = [...numbered(70), ...Array.from({ length: 10 }, () => "many words ".repeat(35))];
    await provider.embed(texts, { dimensions: 4 });
    expect(server.requests.flatMap((r) => r.texts).sort()).toEqual(texts.sort());
    for (const { texts: sent } of server.requests) {
      expect(sent.length).toBeLessThanOrEqual(30);
      expect(sent.reduce((sum, text) => sum + reference(text), 0)).toBeLessThanOrEqual(200);
    }
    expect(server.maxInFlight).toBe(3);
    expect(server.requests.length).toBeLessThanOrEqual(10);
  });
});

describe("the estimate for other models", () => {
  it("is one token for every 3 bytes", async () => {
    const [ascii, chinese] = await estimatingCounter().fit(["a".repeat(300), "漢".repeat(100)], null);
    expect([ascii?.tokens, chinese?.tokens]).toEqual([100, 100].map((n) => expect.closeTo(n, -1) as number));
  });
});
