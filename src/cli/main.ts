#!/usr/bin/env node
import { loadCommands } from "./commands.js";
import { EXIT, reportError } from "./exit.js";
import { createProgram } from "./program.js";
import { endProcess, handleStopSignals } from "./signals.js";

// What ps shows instead of the arguments: --database-url may hold a password.
process.title = "embedd";

handleStopSignals();
try {
  const program = createProgram(await loadCommands(process.argv.slice(2)));
  await program.parseAsync();
  process.exitCode ??= EXIT.ok;
} catch (error) {
  process.exitCode = reportError(error);
}
endProcess();
