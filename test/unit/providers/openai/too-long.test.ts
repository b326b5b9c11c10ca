import { expect, it } from "vitest";
import type { RequestUsage } from "#embedd/providers/provider.js";
import { apiError } from "../../../helpers/api-server.js";
import { start } from "./start.js";

it("a text that the server finds too long counts as cut, once, and is said in the log", async () => {
  const warnings: unknown[] = [];
  const log = {
    debug: () => undefined,
    info: () => undefined,
    warn: (details: object) => warnings.push(details),
    error: () => undefined,
  };
  const { provider, server } = await start(
    {
      script: ({ texts }) =>
        texts.some((text) => text.length > 100)
          ? apiError(400, { message: "the input length exceeds the context length" })
          : undefined,
    },
    { model: "any", dimensions: 1_536, log },
  );
  const spent: RequestUsage[] = [];
  const meter = {
    reserve: () => Promise.resolve({ settle: (usage: RequestUsage) => void spent.push(usage) }),
  };
  await provider.embed([`${"a".repeat(99)}😀${"b".repeat(300)}`, "short"], { meter });
  expect(spent.reduce((sum, { cutTexts = 0 }) => sum + cutTexts, 0)).toBe(1);
  expect(spent.reduce((sum, { texts = 0 }) => sum + texts, 0)).toBe(2);
  expect(warnings).toMatchObject([{ texts: 1, total: 1 }]);
  expect(server.requests.every(({ texts }) => texts.every((text) => text.isWellFormed()))).toBe(true);
});
