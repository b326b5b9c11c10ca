import { z } from "zod";
import { PRESETS, PRESET_NAMES } from "#embedd/providers/openai/presets.js";
import type { Preset, PresetName } from "#embedd/providers/openai/presets.js";
import { SETTING_GROUPS } from "#embedd/settings.js";
import { escapeMarkdown } from "./markers.js";

/** What JSON Schema says about one variable; `unset` and `preset` are of src/settings.ts. */
interface SettingSchema {
  type?: string;
  minimum?: number;
  maximum?: number;
  enum?: string[];
  default?: string | number;
  description?: string;
  unset?: string;
  preset?: NonNullable<z.GlobalMeta["preset"]>;
}

export interface Setting {
  name: string;
  bounds: string;
  default: string;
  description: string;
}

/** Every variable in words, by group. */
export function describeSettings(): Record<string, Setting[]> {
  return Object.fromEntries(
    Object.entries(SETTING_GROUPS).map(([group, shape]) => {
      const schema = z.toJSONSchema(z.object(shape), { io: "input", unrepresentable: "any" });
      const properties = Object.entries(schema.properties ?? {});
      return [group, properties.map(([name, property]) => describe(name, property as SettingSchema))];
    }),
  );
}

function describe(name: string, schema: SettingSchema): Setting {
  const fixed = schema.default === undefined ? undefined : `\`${schema.default}\``;
  return {
    name,
    bounds: bounds(name, schema),
    default: fixed ?? schema.unset ?? (schema.preset === undefined ? "none" : byPreset(schema.preset)),
    description: schema.description ?? "",
  };
}

function bounds(name: string, schema: SettingSchema): string {
  if (schema.enum !== undefined) return schema.enum.map((choice) => `\`${choice}\``).join(", ");
  if (schema.minimum === undefined || schema.maximum === undefined) return "text";
  const unit = name.endsWith("_MS") ? " milliseconds" : name.endsWith("_MB") ? " MiB" : "";
  return `${number(schema.minimum)} to ${number(schema.maximum)}${unit}`;
}

/** "60,000; ollama, tei 120,000": the most common value first. */
function byPreset(field: NonNullable<SettingSchema["preset"]>): string {
  if (field === "baseUrl" || field === "model") return "the provider's";
  const names = new Map<number, PresetName[]>();
  for (const name of PRESET_NAMES) {
    const value = PRESETS[name][field];
    names.set(value, [...(names.get(value) ?? []), name]);
  }
  const [[common] = [], ...others] = [...names].sort(([, a], [, b]) => b.length - a.length);
  const rest = others.map(([value, which]) => `; ${which.join(", ")} ${number(value)}`);
  return `${number(common ?? 0)}${rest.join("")}`;
}

function number(value: number): string {
  return value >= 1e9 && Number.isInteger(Math.log10(value))
    ? `10^${Math.log10(value)}`
    : value.toLocaleString("en-US");
}

export function renderSettings(): string {
  return Object.entries(describeSettings())
    .map(([group, settings]) => `### ${group}\n\n${settings.map(renderSetting).join("\n")}`)
    .join("\n\n");
}

function renderSetting({ name, bounds, description, ...setting }: Setting): string {
  return `- \`${name}\` (${bounds}; default: ${setting.default}): ${escapeMarkdown(description)}`;
}

/** The defaults that depend on EMBEDD_PROVIDER. */
export function renderPresets(): string {
  return PRESET_NAMES.map(renderPreset).join("\n");
}

function renderPreset(name: PresetName): string {
  const preset: Preset = PRESETS[name];
  const { requestTokens, requestInputs, concurrency, timeoutMs } = preset;
  return [
    `- \`${name}\``,
    `  - address: ${code(preset.baseUrl, "EMBEDD_BASE_URL must be set")}`,
    `  - model: ${code(preset.model, "EMBEDD_MODEL must be set")}`,
    `  - key: ${code(preset.keyVariable, "none needed")}`,
    `  - a request: at most ${number(requestTokens)} tokens and ${number(requestInputs)} texts, within ${number(timeoutMs)} ms`,
    `  - requests in flight: at most ${concurrency}`,
    `  - price: ${{ list: "OpenAI's list price", free: "none", unknown: "unknown" }[preset.price]}`,
  ].join("\n");
}

function code(value: string | null, otherwise: string): string {
  return value === null ? otherwise : `\`${value}\``;
}
