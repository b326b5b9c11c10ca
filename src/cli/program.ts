import { readFileSync } from "node:fs";
import { Command } from "commander";
import { DEFAULTS } from "../defaults.js";
import { LOG_LEVELS, PROVIDER_NAMES } from "../settings.js";
import type { AddCommand } from "./commands.js";
import { EXIT, exitCodesLine } from "./exit.js";
import { print, printError } from "./print.js";

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const HELP_COLUMNS = 80;

/**
 * The command line: the global options, and the given commands with theirs. Parsing runs a command.
 * @param commands from `loadCommands`
 */
export function createProgram(commands: readonly AddCommand[]): Command {
  const program = new Command("embedd")
    .description("The embedding daemon for PostgreSQL: rows that embed themselves.")
    .version(version)
    .option("--database-url <url>", "PostgreSQL to use (DATABASE_URL)")
    .option("--embedded", "use PostgreSQL inside this process instead, to try embedd without a server")
    .option(
      "--data-dir <path>",
      `directory of embedded PostgreSQL (EMBEDD_DATA_DIR, default ${DEFAULTS.dataDir})`,
    )
    .option(
      "--provider <name>",
      `${PROVIDER_NAMES.join(", ")} (EMBEDD_PROVIDER, default ${DEFAULTS.provider})`,
    )
    .option(
      "--log-level <level>",
      `${LOG_LEVELS.join(", ")} (EMBEDD_LOG_LEVEL, default ${DEFAULTS.logLevel})`,
    )
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ writeOut: print, writeErr: printError })
    .showHelpAfterError("(embedd --help lists the commands)")
    .hook("preAction", (_, command) => {
      process.title = `embedd ${command.name()}`;
    })
    .exitOverride((error) => {
      process.exit(error.exitCode === 0 ? EXIT.ok : EXIT.usage);
    })
    .addHelpText(
      "after",
      ({ command }) => `
${command.createHelp().boxWrap(exitCodesLine(), HELP_COLUMNS)}
Settings are environment variables; docs/reference.md lists them.

Example:
  embedd migrate && embedd watch docs --content body --create-columns && embedd run`,
    );

  for (const add of commands) add(program);
  // After a mistake in a command's arguments, its own help is what one needs.
  for (const command of program.commands)
    command.showHelpAfterError(`(embedd ${command.name()} --help shows its arguments and options)`);
  return program;
}
