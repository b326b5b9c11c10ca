import type { Command } from "commander";

/** Adds a command with its options. */
export type AddCommand = (program: Command) => void;

/** In the order of `embedd --help`. A command's module is loaded on demand, because its libraries load slowly. */
const COMMANDS: Readonly<Record<string, () => Promise<AddCommand>>> = {
  migrate: async () => (await import("./migrate.js")).addMigrate,
  watch: async () => (await import("./watch.js")).addWatch,
  unwatch: async () => (await import("./watch.js")).addUnwatch,
  repair: async () => (await import("./repair.js")).addRepair,
  grant: async () => (await import("./roles.js")).addGrant,
  trust: async () => (await import("./roles.js")).addTrust,
  run: async () => (await import("./run.js")).addRun,
  status: async () => (await import("./status.js")).addStatus,
  pause: async () => (await import("./pause.js")).addPause,
  resume: async () => (await import("./pause.js")).addResume,
  search: async () => (await import("./search.js")).addSearch,
  estimate: async () => (await import("./estimate.js")).addEstimate,
  failures: async () => (await import("./failures.js")).addFailures,
  retry: async () => (await import("./failures.js")).addRetry,
  reembed: async () => (await import("./reembed.js")).addReembed,
  "switch-model": async () => (await import("./switch-model.js")).addSwitchModel,
  doctor: async () => (await import("./doctor.js")).addDoctor,
  demo: async () => (await import("./demo.js")).addDemo,
  uninstall: async () => (await import("./uninstall.js")).addUninstall,
};

/**
 * Loads the command that a command line begins with, or all of them, as for its help and for a word that is no command.
 * @param words the command line after `embedd`
 */
export async function loadCommands(words: readonly string[]): Promise<AddCommand[]> {
  const [first = ""] = words;
  const load = Object.hasOwn(COMMANDS, first) ? COMMANDS[first] : undefined;
  return Promise.all((load ? [load] : Object.values(COMMANDS)).map((loadCommand) => loadCommand()));
}
