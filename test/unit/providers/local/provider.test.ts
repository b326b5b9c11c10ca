import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createLocalProvider } from "#embedd/providers/local/index.js";
import { untilComputing, withThread } from "../../../helpers/inference-thread.js";
import {
  COSINE_OF_BOTH,
  cosine,
  FIRST_COMPONENTS,
  FIRST_SENTENCE,
  MIXED_TEXTS,
  SECOND_SENTENCE,
} from "../../../helpers/golden-texts.js";

type Provider = Awaited<ReturnType<typeof createLocalProvider>>;

let provider: Provider;
beforeAll(async () => {
  provider = await createLocalProvider();
});
afterAll(() => provider.close());

async function embedOne(text: string): Promise<Float32Array> {
  const [vector] = await provider.embed([text]);
  if (!vector) throw new Error("no vector");
  return vector;
}

describe("vectors of all-MiniLM-L6-v2", () => {
  it("match the published ones", async () => {
    const vector = await embedOne(FIRST_SENTENCE);
    expect(provider).toMatchObject({ model: "all-MiniLM-L6-v2", dimensions: 384 });
    expect(vector).toHaveLength(384);
    FIRST_COMPONENTS.forEach((value, i) => expect(Math.abs((vector[i] ?? NaN) - value)).toBeLessThan(2e-4));
    expect(cosine(vector, await embedOne(SECOND_SENTENCE))).toBeCloseTo(COSINE_OF_BOTH, 4);
  });

  it("of a text at the model's limit are from the whole text; one more token is cut, and counted", async () => {
    const texts = ["a ".repeat(254), "a ".repeat(255), "e\u0301".repeat(4_000), " ".repeat(9_000)];
    const settled: unknown[] = [];
    const meter = { reserve: () => Promise.resolve({ settle: (spent: object) => void settled.push(spent) }) };
    await provider.embed(texts, { meter });
    expect(settled).toEqual([{ requests: 0, tokens: 256 + 256 + 3 + 2, texts: 4, cutTexts: 1 }]);
    expect(await provider.countCut?.(texts)).toBe(1);
  });

  it("do not depend on the batch, and are in the order of the texts", async () => {
    const together = await provider.embed([...MIXED_TEXTS, ...MIXED_TEXTS].reverse());
    for (const [i, text] of MIXED_TEXTS.entries()) {
      const alone = await embedOne(text);
      expect(cosine(alone, together.at(-1 - i) ?? []), `text ${i}`).toBeGreaterThanOrEqual(0.99999);
      expect(cosine(alone, together.at(-1 - i - MIXED_TEXTS.length) ?? [])).toBeGreaterThanOrEqual(0.99999);
    }
  });

  it("have norm 1 for any text", async () => {
    const texts = [
      "",
      " ",
      "\0",
      "\ud800",
      "a\udc00b",
      "e\u0301".repeat(9000),
      "漢字".repeat(9000),
      "👩‍👩‍👧‍👦".repeat(3000),
    ];
    const vectors = await provider.embed([...texts, ...MIXED_TEXTS]);
    for (const vector of vectors) {
      expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    }
  });

  it("depend on the first 256 tokens only", async () => {
    // One token a word, and [CLS] before them: word n is token n + 1.
    const words = Array.from({ length: 254 }, () => "word");
    const base = await embedOne(words.join(" "));
    const longer = await embedOne([...words, "quite", "another", "end"].join(" "));
    const changed = await embedOne(words.with(249, "lion").join(" "));
    const changedLast = await embedOne(words.with(253, "lion").join(" "));
    expect(longer).toEqual(base);
    expect(cosine(changed, base)).toBeLessThan(0.9999);
    expect(cosine(changedLast, base)).toBeLessThan(0.9999);
  });

  it("are none for no texts", async () => {
    expect(await provider.embed([])).toEqual([]);
  });
});

describe("a 10 MB text", () => {
  const TEN_MB = 10_000_000;
  it.each([
    ["words", "lorem ipsum dolor sit amet ".repeat(TEN_MB / 27)],
    ["one word", "x".repeat(TEN_MB)],
    ["whitespace", " \n".repeat(TEN_MB / 2)],
    ["punctuation", "!".repeat(TEN_MB)],
    ["Chinese", "漢".repeat(TEN_MB / 3)],
    ["combining marks", "\u0301".repeat(TEN_MB / 2)],
  ])("of %s takes a few seconds of processor time at most, and little memory", async (_, text) => {
    const before = process.memoryUsage().rss;
    const cpu = process.cpuUsage();
    await embedOne(text);
    // By processor time, since a busy machine stops any process now and then.
    const { user, system } = process.cpuUsage(cpu);
    expect((user + system) / 1e6).toBeLessThan(5);
    expect(process.memoryUsage().rss - before).toBeLessThan(200_000_000);
  });
});

describe("a process", () => {
  const program = (last: string): string => `
    import { once } from "node:events";
    import { setImmediate as turn } from "node:timers/promises";
    import { createLocalProvider } from "#embedd/providers/local/index.js";
    const started = once(process, "worker");
    const provider = await createLocalProvider();
    const [thread] = await started;
    const busyMs = () => thread.performance.eventLoopUtilization().active;
    const before = busyMs();
    const call = provider.embed(Array.from({ length: 64 }, () => "some more words ".repeat(60)));
    ${last}`;
  const run = (last: string): Promise<unknown> =>
    promisify(execFile)(process.execPath, ["--input-type=module", "--eval", program(last)]);

  it("can exit during inference", async () => {
    // Without care, ONNX Runtime's binding aborts it.
    await run("while (busyMs() < before + 20) await turn(); process.exit(0);");
  });

  it("ends with a provider that was not closed, but not before its vectors are there", async () => {
    await expect(run("console.log((await call).length);")).resolves.toMatchObject({ stdout: "64\n" });
  });
});

describe("a call", () => {
  const many = Array.from({ length: 64 }, (_, i) => `${i} ${"some more words ".repeat(40)}`);
  /** Still in flight when a busy machine sees that it has begun. */
  const lasting = Array.from({ length: 40 }, (_, i) => many.map((text) => `${i} ${text}`)).flat();

  it("leaves the main loop free", async () => {
    const before = performance.eventLoopUtilization();
    await provider.embed(many);
    // Inference on the main thread would take nearly all of the time, on a busy machine too.
    expect(performance.eventLoopUtilization(before).utilization).toBeLessThan(0.3);
  });

  it("rejects soon after an abort, with its reason, and the next call works", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    // Seconds of work in one micro-batch, and past its tokenization when the abort comes.
    const { provider: slow, thread } = await withThread(() =>
      createLocalProvider({ threads: 1, tokenBudget: 32_768 }),
    );
    const call = slow.embed(many, { signal: controller.signal });
    await untilComputing(thread);
    const abortedAt = performance.now();
    controller.abort(reason);
    await expect(call).rejects.toBe(reason);
    const rejectedMs = performance.now() - abortedAt;
    await expect(slow.embed(["x"], { signal: controller.signal })).rejects.toBe(reason);
    await expect(slow.embed(["x"])).resolves.toHaveLength(1);
    // The next call waits for the session, which cannot be interrupted.
    expect(rejectedMs).toBeLessThan((performance.now() - abortedAt) / 2);
    await slow.close();
  });

  it("can run at the same time as another", async () => {
    const [first, second] = await Promise.all([provider.embed(MIXED_TEXTS), provider.embed(MIXED_TEXTS)]);
    expect(first).toEqual(second);
  });

  it("rejects when the thread dies, and the next call starts another thread", async () => {
    const { provider: doomed, thread } = await withThread(() => createLocalProvider({ threads: 1 }));
    const crash = { kind: "provider", code: "local_inference_crashed" };
    const rejection = expect(doomed.embed(lasting)).rejects.toMatchObject(crash);
    await untilComputing(thread);
    // No such request: an uncaught TypeError in the thread.
    thread.postMessage(null);
    await rejection;
    await expect(doomed.embed(["x"])).resolves.toHaveLength(1);
    await doomed.close();
  });

  it("in flight rejects on close, as do later calls, and a second close is harmless", async () => {
    const { provider: closing, thread } = await withThread(() => createLocalProvider({ threads: 1 }));
    const call = closing.embed(lasting);
    const rejection = expect(call).rejects.toMatchObject({ kind: "provider", code: "provider_closed" });
    await untilComputing(thread);
    void closing.close();
    await rejection;
    await Promise.all([closing.close(), closing.close()]);
    await expect(closing.embed(["x"])).rejects.toMatchObject({ code: "provider_closed" });
  });
});
