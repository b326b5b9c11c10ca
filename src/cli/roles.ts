import type { Command } from "commander";
import { grantOwner, grantWorker, revokeWorker } from "../admin/roles.sql.js";
import { shellWord } from "../shell-word.js";
import { withOwner } from "./context.js";
import { EXIT } from "./exit.js";
import { print, printError } from "./print.js";
import { visibleInLine } from "../visible.js";

export function addGrant(program: Command): void {
  program
    .command("grant <role>")
    .description("let a role that owns no table run the worker, on all tables that are or will be watched")
    .option("--owner", "instead, let a role watch, repair, pause, retry and re-embed the tables that it owns")
    .option("--revoke", "revoke all rights that embedd granted to the role")
    .addHelpText("after", "\nExample:\n  embedd grant embedd_worker\n  embedd grant --owner app")
    .action(async (role: string, flags: { owner?: boolean; revoke?: boolean }, command: Command) => {
      const { owner = false, revoke = false } = flags;
      const give = owner ? grantOwner : grantWorker;
      await withOwner(command, async (client) => {
        const what = owner ? "watch its tables" : "run the worker";
        if (!revoke) {
          await give(client, role);
          print(`${visibleInLine(role)} can now ${what}\n`);
          return;
        }
        const kept = await revokeWorker(client, role);
        print(`${visibleInLine(role)} can no longer ${what}\n`);
        if (kept.length === 0) return;
        printError(`${visibleInLine(role)} keeps what you may not revoke:\n`);
        for (const privilege of kept) printError(`  ${visibleInLine(privilege)}\n`);
        printError(`try: embedd grant ${shellWord(role)} --revoke  # as the tables' owner or a superuser\n`);
        process.exitCode = EXIT.no;
      });
    });
}
