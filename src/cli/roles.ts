import type { Command } from "commander";
import { withOwnerClient } from "../database/pool.js";
import { grantWorker, revokeWorker } from "../admin/roles.sql.js";
import { withContext } from "./context.js";

export function addGrant(program: Command): void {
  program
    .command("grant <role>")
    .description("let a role that owns nothing run the worker, on all watched tables and those to come")
    .option("--revoke", "take it back")
    .addHelpText("after", "\nExample:\n  embedd grant embedd_worker")
    .action(async (role: string, flags: { revoke?: boolean }, command: Command) => {
      await withContext(command, ({ databaseUrl }) =>
        withOwnerClient(databaseUrl, async (client) => {
          await (flags.revoke === true ? revokeWorker(client, role) : grantWorker(client, role));
          process.stdout.write(`${role} may ${flags.revoke === true ? "no longer " : ""}run the worker\n`);
        }),
      );
    });
}
