import type { Command } from "commander";
import { grantWorker, revokeWorker } from "../admin/roles.sql.js";
import { withOwner } from "./context.js";

export function addGrant(program: Command): void {
  program
    .command("grant <role>")
    .description("let a role that owns no table run the worker, on all tables that are or will be watched")
    .option("--revoke", "revoke these rights")
    .addHelpText("after", "\nExample:\n  embedd grant embedd_worker")
    .action(async (role: string, { revoke = false }: { revoke?: boolean }, command: Command) => {
      await withOwner(command, async (client) => {
        await (revoke ? revokeWorker(client, role) : grantWorker(client, role));
        process.stdout.write(`${role} can ${revoke ? "no longer" : "now"} run the worker\n`);
      });
    });
}
