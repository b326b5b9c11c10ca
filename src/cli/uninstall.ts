import type { Command } from "commander";
import type { Client } from "pg";
import { uninstall } from "../admin/uninstall.js";
import { withOwner } from "./context.js";
import { print } from "./print.js";

export function addUninstall(program: Command): void {
  program
    .command("uninstall")
    .description("stop watching every table and drop the schema embedd; vectors stay")
    .option("--drop-columns", "also drop the embedding and model columns")
    .option("--drop-chunks", "drop embedd.chunks even if it holds rows")
    .option("--cascade", "also drop what others built on embedd's tables, views and functions")
    .addHelpText("after", "\nExample:\n  embedd uninstall")
    .action(
      async (flags: { dropColumns?: boolean; dropChunks?: boolean; cascade?: boolean }, command: Command) => {
        const { dropColumns = false, dropChunks = false, cascade = false } = flags;
        const drop = async (client: Client): Promise<void> => {
          const tables = await uninstall(client, { dropColumns, dropChunks, cascade });
          const unwatched = tables.length > 0 ? `; no longer watching ${tables.join(", ")}` : "";
          print(`dropped the schema embedd${unwatched}\n`);
        };
        // It also drops the schema of another build, which cannot be migrated.
        await withOwner(command, drop, { migrated: false });
      },
    );
}
