import { describe, expect, it } from "vitest";
import { limitRepeats } from "#embedd/logger.js";
import type { Logger } from "#embedd/logger.js";

function recorded() {
  const lines: { level: string; details: object; message: string }[] = [];
  const at = (level: string) => (details: object, message: string) => {
    lines.push({ level, details, message });
  };
  const log: Logger = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  return { log, lines };
}

describe("a storm of errors", () => {
  it("is logged at most once a second per cause, with a count", () => {
    const { log, lines } = recorded();
    let now = 0;
    const limited = limitRepeats(log, () => now);
    for (; now < 10_000; now++) limited.warn({ code: "08006", pipeline: now % 7 }, "the database failed");
    expect(lines).toHaveLength(10);
    expect(lines[0]?.details).toEqual({ code: "08006", pipeline: 0 });
    for (const line of lines.slice(1)) expect(line.details).toMatchObject({ suppressed: 999 });
  });

  it("of ever new causes is not remembered forever", () => {
    const { log, lines } = recorded();
    const limited = limitRepeats(log, () => 0);
    limited.warn({ cause: "first" }, "failed");
    for (let i = 0; i < 1_000; i++) limited.warn({ cause: i }, "failed");
    limited.warn({ cause: "first" }, "failed");
    expect(lines).toHaveLength(1_002);
  });

  it("does not hide other causes, levels or pipelines", () => {
    const { log, lines } = recorded();
    const limited = limitRepeats(log, () => 0);
    limited.warn({ cause: "a" }, "failed");
    limited.warn({ cause: "b" }, "failed");
    limited.error({ cause: "a" }, "failed");
    limited.warn({ cause: "a" }, "failed otherwise");
    for (let pipeline = 1; pipeline < 4; pipeline++) limited.info({ pipeline }, "serving");
    expect(lines.map(({ level }) => level)).toEqual([
      "warn",
      "warn",
      "error",
      "warn",
      "info",
      "info",
      "info",
    ]);
  });
});
