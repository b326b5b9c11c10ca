import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { exitCodesLine } from "#embedd/cli/exit.js";
import { createProgram } from "#embedd/cli/program.js";
import { DEFAULTS } from "#embedd/defaults.js";
import { PRESETS } from "#embedd/providers/openai/presets.js";
import { renderCommands } from "../docs/commands.js";
import { renderErrorCodes, renderExitCodes, renderVersions } from "../docs/facts.js";
import { expectGenerated, root } from "../docs/markers.js";
import { describeSettings, renderPresets, renderSettings } from "../docs/settings.js";

const read = (path: string): Promise<string> => readFile(`${root}/${path}`, "utf8");
const onOneLine = (text: string): string => text.replace(/\s+/g, " ");

it("docs/reference.md has the commands, settings, codes and versions of the source", async () => {
  await expectGenerated({
    commands: await renderCommands(),
    settings: renderSettings(),
    presets: renderPresets(),
    "exit codes": renderExitCodes(),
    "error codes": renderErrorCodes(),
    versions: await renderVersions(),
  });
});

describe("exit codes", () => {
  it("are in the command's help", () => {
    let help = "";
    createProgram([])
      .configureOutput({ writeOut: (text) => (help += text) })
      .outputHelp();
    expect(onOneLine(help)).toContain(exitCodesLine());
  });

  it("are in README, or a link to them", async () => {
    const readme = onOneLine(await read("README.md"));
    expect(readme.includes("docs/reference.md") || readme.includes(exitCodesLine())).toBe(true);
  });
});

describe("defaults", () => {
  /** Numbers in words such as "512; 2,048 for openai", without separators. */
  const numbers = (text: string): string[] => text.replace(/(?<=\d),(?=\d{3})/g, "").match(/\d+/g) ?? [];

  it.each(["README.md", "docs/providers.md"])(
    "in the tables of %s are those of the settings",
    async (path) => {
      const settings = Object.values(describeSettings()).flat();
      const rows = (await read(path)).matchAll(/^\| `([A-Z][A-Z_]+)` +\|([^|]*)\|/gm);
      for (const [, variable = "", cell = ""] of rows) {
        const setting = settings.find(({ name }) => name === variable);
        expect(setting, variable).toBeDefined();
        const allowed = numbers(setting?.default ?? "");
        expect(allowed, `${variable}: ${cell}`).toEqual(expect.arrayContaining(numbers(cell)));
      }
    },
  );

  it("in the tables of docs/providers.md are those of every preset and API setting", async () => {
    const page = await read("docs/providers.md");
    const rows = new Map(
      [...page.matchAll(/^\| `(\w+)` +\|(.*)\|$/gm)].map(([, name = "", rest = ""]) => [name, rest]),
    );
    for (const [name, { baseUrl, model, keyVariable }] of Object.entries(PRESETS)) {
      const cells = rows
        .get(name)
        ?.split("|")
        .map((cell) => cell.trim());
      expect(cells?.slice(0, 2), name).toEqual([
        `${baseUrl === null ? "set " : ""}\`${baseUrl ?? "EMBEDD_BASE_URL"}\``,
        `${model === null ? "set " : ""}\`${model ?? "EMBEDD_MODEL"}\``,
      ]);
      expect(cells?.[2], name).toContain(keyVariable ?? "none");
    }
    const names = describeSettings()["API providers"]?.map(({ name }) => name) ?? [];
    const keys = Object.values(PRESETS).map(({ keyVariable }): string | null => keyVariable);
    expect(names.filter((name) => !rows.has(name) && !keys.includes(name))).toEqual([]);
  });

  it.each([
    "src/worker/worker-options.ts",
    "src/providers/create-provider.ts",
    "src/providers/local/index.ts",
    "src/providers/openai/settings.ts",
  ])("in the docstrings of %s are the ones that apply", async (path) => {
    const documented = (await read(path)).matchAll(/@default ([\w"]+)[^\n]*\*\/\n\s*(\w+)\?:/g);
    const defaults = new Map<string, unknown>(Object.entries(DEFAULTS));
    const compared = [...documented].filter(([, , name = ""]) => defaults.has(name));
    expect(compared.length).toBeGreaterThan(0);
    for (const [, value, name = ""] of compared)
      expect(value?.replaceAll('"', ""), name).toBe(String(defaults.get(name)));
  });
});
