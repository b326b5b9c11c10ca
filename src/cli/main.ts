#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command } from "commander";
import { config as loadDotenv } from "dotenv";
import { addDemo } from "./demo.js";
import { addDoctor } from "./doctor.js";
import { addEstimate } from "./estimate.js";
import { EXIT, reportError } from "./exit.js";
import { addFailures, addRetry } from "./failures.js";
import { addMigrate } from "./migrate.js";
import { addPause, addResume } from "./pause.js";
import { addReembed } from "./reembed.js";
import { addGrant } from "./roles.js";
import { addUninstall } from "./uninstall.js";
import { addRun } from "./run.js";
import { addSearch } from "./search.js";
import { addStatus } from "./status.js";
import { addSwitchModel } from "./switch-model.js";
import { addUnwatch, addWatch } from "./watch.js";

// What ps shows, instead of the arguments: --database-url may hold a password.
process.title = "embedd";

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  version: string;
};

const program = new Command("embedd")
  .description("The embedding daemon for PostgreSQL: rows that embed themselves.")
  .version(version)
  .option("--database-url <url>", "PostgreSQL to use (DATABASE_URL); without it embedded PostgreSQL")
  .option("--data-dir <path>", "where embedded PostgreSQL lives (EMBEDD_DATA_DIR, default .embedd)")
  .option("--provider <name>", "local, openai, github, azure, ollama or tei (EMBEDD_PROVIDER)")
  .option("--log-level <level>", "debug, info, warn, error or silent (EMBEDD_LOG_LEVEL)")
  .configureHelp({ showGlobalOptions: true })
  .showHelpAfterError("(embedd --help lists the commands)")
  .hook("preAction", (_, command) => {
    process.title = `embedd ${command.name()}`;
  })
  .exitOverride((error) => {
    process.exit(error.exitCode === 0 ? EXIT.ok : EXIT.usage);
  })
  .addHelpText(
    "after",
    `
Exit codes: 0 done; 1 a provider or a statement failed; 2 wrong settings or usage, nothing changed;
3 it ran and the answer is no (failed rows, no worker, nothing found); 4 the database is out of reach.

Example:
  embedd migrate && embedd watch docs --content body && embedd run`,
  );

for (const add of [
  addMigrate,
  addWatch,
  addUnwatch,
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

loadDotenv({ quiet: true });
try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = reportError(error);
}
