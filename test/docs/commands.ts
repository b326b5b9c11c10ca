import { Help } from "commander";
import type { Command } from "commander";
import { loadCommands } from "#embedd/cli/commands.js";
import { createProgram } from "#embedd/cli/program.js";
import { escapeMarkdown } from "./markers.js";

const help = new Help();

/** Every command: usage, description, arguments, options, and the text that its `--help` adds. */
export async function renderCommands(): Promise<string> {
  const program = createProgram(await loadCommands([]));
  const global = program.options.filter(({ long }) => long !== "--version");
  return [
    "Every command takes these options:",
    global.map((option) => item(option.flags, help.optionDescription(option))).join("\n"),
    ...program.commands.map(renderCommand),
  ].join("\n\n");
}

function renderCommand(command: Command): string {
  const options = command.options.map((option) => {
    const required = option.mandatory ? " (required)" : "";
    return item(option.flags, help.optionDescription(option) + required);
  });
  return [
    `### embedd ${command.name()}`,
    fence("", `embedd ${command.name()} ${command.usage()}`.trim()),
    sentence(command.description()),
    options.join("\n"),
    extraHelp(command),
  ]
    .filter((part) => part !== "")
    .join("\n\n");
}

/** What `--help` prints after the generated part, such as examples. */
function extraHelp(command: Command): string {
  let printed = "";
  command.configureOutput({ writeOut: (text) => (printed += text) }).outputHelp();
  const text = printed.slice(command.helpInformation().length).trim();
  const [before = "", example] = text.split(/^Example:\n/m);
  const notes = before.trim();
  return [notes === "" ? "" : fence("", notes), example === undefined ? "" : fence("sh", dedent(example))]
    .filter((part) => part !== "")
    .join("\n\n");
}

function item(flags: string, description: string): string {
  return `- \`${flags}\`: ${escapeMarkdown(description)}`;
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${escapeMarkdown(text.slice(1))}.`;
}

function dedent(text: string): string {
  return text.trimEnd().replace(/^ {2}/gm, "");
}

function fence(language: string, text: string): string {
  return `\`\`\`${language}\n${text}\n\`\`\``;
}
