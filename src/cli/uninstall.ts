import type { Command } from "commander";
import { withOwnerClient } from "../database/pool.js";
import { uninstall } from "../admin/uninstall.js";
import { withContext } from "./context.js";

export function addUninstall(program: Command): void {
  program
    .command("uninstall")
    .description("leave every table and remove the schema embedd; vectors stay")
    .option("--drop-columns", "the vectors and their models' names go as well")
    .option("--drop-chunks", "even if embedd.chunks holds rows")
    .addHelpText("after", "\nExample:\n  embedd uninstall")
    .action(async (flags: { dropColumns?: boolean; dropChunks?: boolean }, command: Command) => {
      await withContext(
        command,
        ({ databaseUrl }) =>
          withOwnerClient(databaseUrl, async (client) => {
            const left = await uninstall(client, {
              dropColumns: flags.dropColumns ?? false,
              dropChunks: flags.dropChunks ?? false,
            });
            process.stdout.write(
              `removed the schema embedd${left.length > 0 ? `, left ${left.join(", ")}` : ""}\n`,
            );
          }),
        // The schema of another build is removed as well, and cannot be migrated.
        { migrated: false },
      );
    });
}
