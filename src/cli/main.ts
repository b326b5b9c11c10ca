#!/usr/bin/env node
import { config as loadDotenv } from "dotenv";
import { reportError } from "./exit.js";
import { createProgram } from "./program.js";

// What ps shows instead of the arguments: --database-url may hold a password.
process.title = "embedd";

const program = createProgram();
loadDotenv({ quiet: true });
try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = reportError(error);
}
