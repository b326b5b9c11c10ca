import type { Command } from "commander";
import { migrate, migrationScript } from "../admin/migrate.js";
import { withContext } from "./context.js";
import { print } from "./print.js";

export function addMigrate(program: Command): void {
  program
    .command("migrate")
    .description("create or update the schema embedd; safe to run repeatedly and concurrently")
    .option("--sql", "print the SQL script instead of running it")
    .addHelpText("after", "\nExample:\n  DATABASE_URL=postgres://me@localhost/app embedd migrate")
    .action(async (flags: { sql?: boolean }, command: Command) => {
      if (flags.sql === true) {
        print(await migrationScript());
        return;
      }
      await withContext(
        command,
        async ({ databaseUrl }) => {
          const done = await migrate(databaseUrl);
          print(done.length === 0 ? "up to date\n" : `ran ${done.join(", ")}\n`);
        },
        { migrated: false },
      );
    });
}
