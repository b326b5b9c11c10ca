import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Command, CommanderError } from "commander";
import { loadCommands } from "#embedd/cli/commands.js";

const MAIN = fileURLToPath(new URL("../../../dist/cli/main.js", import.meta.url));

/** A program with all definitions of the command line, whose commands do nothing. */
export type CreateProgram = () => Command;

/** Built from all commands and the global options of `embedd --help`. */
export async function loadProgram(): Promise<CreateProgram> {
  const commands = await loadCommands([]);
  const { stdout } = await promisify(execFile)(process.execPath, [MAIN, "--help"]);
  const globals = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[\w-]+(?: <[\w-]+>)?) {2,}/gm)].map(
    (match) => match[1] ?? "",
  );
  return () => {
    const program = new Command("embedd")
      .exitOverride()
      .configureOutput({ writeOut: () => undefined, writeErr: () => undefined });
    for (const flags of globals) if (flags !== "--help") program.option(flags);
    for (const add of commands) add(program);
    for (const command of program.commands) command.action(() => undefined);
    return program;
  };
}

/** What is wrong with a whole command line, or null. */
export function parseProblem(createProgram: CreateProgram, args: readonly string[]): string | null {
  try {
    createProgram().parse(args, { from: "user" });
    return null;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? null : error.message;
  }
}

/** What is wrong with a mention such as `embedd run --once`, which may leave out arguments; or null. */
export function mentionProblem(createProgram: CreateProgram, args: readonly string[]): string | null {
  const program = createProgram();
  const name = args.find((word) => !word.startsWith("-"));
  const command = program.commands.find((c) => c.name() === name);
  if (name !== undefined && /^[a-z]/.test(name) && command === undefined) return `no command ${name}`;
  const known = [...program.options, ...(command?.options ?? [])].map(({ long }) => long);
  const unknown = args
    .map((word) => /^--[a-z][\w-]*/.exec(word)?.[0])
    .find((flag) => flag !== undefined && flag !== "--help" && !known.includes(flag));
  return unknown === undefined ? null : `${name ?? "embedd"} has no flag ${unknown}`;
}

/** The arguments of each call of embedd in a line of shell. */
export function embeddCalls(line: string): string[][] {
  return line.split(/\s*(?:&&|;|\|)\s*/).flatMap((part) => {
    const words = shellWords(part);
    const start = words.findIndex((word) => !/^\w+=/.test(word));
    return words[start] === "embedd" ? [words.slice(start + 1)] : [];
  });
}

export function shellWords(line: string): string[] {
  return [...line.matchAll(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g)].map(([word]) =>
    word.replace(/"([^"]*)"|'([^']*)'/g, (_, a: string | undefined, b: string | undefined) => a ?? b ?? ""),
  );
}
