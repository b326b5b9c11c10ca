import type { Command } from "commander";
import { grantOwner, grantWorker, revokeWorker } from "../admin/roles.sql.js";
import { withOwner } from "./context.js";

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
        await (revoke ? revokeWorker : give)(client, role);
        const what = owner ? "watch its tables" : "run the worker";
        process.stdout.write(`${role} can ${revoke ? "no longer" : "now"} ${what}\n`);
      });
    });
}
