import { readFileSync } from "node:fs";
import { Command } from "commander";
import { DEFAULTS } from "../defaults.js";
import { LOG_LEVELS, PROVIDER_NAMES } from "../settings.js";
import { addDemo } from "./demo.js";
import { addDoctor } from "./doctor.js";
import { addEstimate } from "./estimate.js";
import { EXIT, exitCodesLine } from "./exit.js";
import { addFailures, addRetry } from "./failures.js";
import { addMigrate } from "./migrate.js";
import { addPause, addResume } from "./pause.js";
import { addReembed } from "./reembed.js";
import { print, printError } from "./print.js";
import { addRepair } from "./repair.js";
import { addGrant } from "./roles.js";
import { addUninstall } from "./uninstall.js";
import { addRun } from "./run.js";
import { addSearch } from "./search.js";
import { addStatus } from "./status.js";
import { addSwitchModel } from "./switch-model.js";
import { addUnwatch, addWatch } from "./watch.js";

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const HELP_COLUMNS = 80;

/** The command line: every command with its options. Parsing runs a command. */
export function createProgram(): Command {
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

  for (const add of [
    addMigrate,
    addWatch,
    addUnwatch,
    addRepair,
    addGrant,
    addRun,
    addStatus,
    addPause,
    addResume,
    addSearch,
    addEstimate,
    addFailures,
    addRetry,
    addReembed,
    addSwitchModel,
    addDoctor,
    addDemo,
    addUninstall,
  ])
    add(program);
  // After a mistake in a command's arguments, its own help is what one needs.
  for (const command of program.commands)
    command.showHelpAfterError(`(embedd ${command.name()} --help shows its arguments and options)`);
  return program;
}
