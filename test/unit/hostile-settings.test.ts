import { describe, expect, it } from "vitest";
import { loadConfig } from "#embedd/config.js";
import { EmbeddError } from "#embedd/errors.js";
import { settingsSchema } from "#embedd/settings.js";

/** Values that somebody sets by mistake or on purpose. Every setting of src/settings.ts meets each of them. */
const VALUES: [name: string, value: string][] = [
  ["a word", "soon"],
  ["a negative number", "-1"],
  ["a huge number", "1e308"],
  ["more than any number", "9".repeat(400)],
  ["not a number", "NaN"],
  ["infinity", "Infinity"],
  ["a hexadecimal number", "0x10"],
  ["a fraction", "0.5"],
  ["JSON", '{"a": 1}'],
  ["an array", "[]"],
  ["blanks", "   "],
  ["a NUL", "a\0b"],
  ["lines", "1\n2"],
  ["a lone surrogate", "\ud800"],
  ["1 MB", "x".repeat(1_000_000)],
];

const SECRET = /KEY|TOKEN$|HEADERS|DATABASE_URL/;

describe.each(Object.keys(settingsSchema.shape))("the setting %s", (name) => {
  it.each(VALUES)(
    "set to %s is accepted within its bounds or refused by name, and never breaks the start",
    (_, value) => {
      let config: ReturnType<typeof loadConfig>;
      try {
        config = loadConfig({}, { [name]: value });
      } catch (error) {
        expect(error).toBeInstanceOf(EmbeddError);
        expect(error).toMatchObject({ kind: "configuration", code: "settings" });
        const { message } = error as EmbeddError;
        expect(message).toContain(`${name}: `);
        expect(message.length, "the value is not repeated at length").toBeLessThan(1_000);
        if (SECRET.test(name)) expect(message).not.toContain(value.length > 3 ? value : "\0");
        return;
      }
      for (const [key, number] of Object.entries(config)) {
        if (typeof number !== "number") continue;
        expect(Number.isFinite(number), key).toBe(true);
        expect(number, key).toBeGreaterThanOrEqual(0);
      }
    },
  );

  it("counts as unset when it is empty", () => {
    expect(loadConfig({}, { [name]: "" })).toEqual(loadConfig({}, {}));
  });
});
