import type { Command } from "commander";
import { grantOwner, grantWorker, ownersLeftOut, revokeWorker, setTrust } from "../admin/roles.sql.js";
import { shellWord } from "../shell-word.js";
import { withOwner } from "./context.js";
import { EXIT } from "./exit.js";
import { print, printError } from "./print.js";
import { visibleInLine } from "../visible.js";

interface GrantFlags {
  tablesOf?: string;
  owner?: boolean;
  revoke?: boolean;
}

export function addTrust(program: Command): void {
  program
    .command("trust <owner>")
    .description("let code that a role attaches to its tables run with the rights of workers and superusers")
    .option("--revoke", "trust the role no longer")
    .addHelpText(
      "after",
      "\nWithout it, embedd reads and writes a table only with rights that its owner has too, or that embedd grant gave for\n" +
        "tables of this owner alone.\n\nExample:\n  embedd trust app",
    )
    .action(async (owner: string, flags: { revoke?: boolean }, command: Command) => {
      await withOwner(command, async (client) => {
        await setTrust(client, owner, flags.revoke !== true);
        print(`${visibleInLine(owner)} is ${flags.revoke === true ? "no longer " : ""}trusted\n`);
      });
    });
}

export function addGrant(program: Command): void {
  program
    .command("grant <role>")
    .description("let a role that owns no table run the worker, on all tables that are or will be watched")
    .option(
      "--tables-of <owner>",
      "only on the tables of this role, so that owners need not trust each other",
    )
    .option("--owner", "instead, let a role watch, repair, pause, retry and re-embed the tables that it owns")
    .option("--revoke", "revoke all rights that embedd granted to the role")
    .addHelpText(
      "after",
      "\nExample:\n  embedd grant embedd_worker\n  embedd grant app_worker --tables-of app\n  embedd grant --owner app",
    )
    .hook("preAction", (command) => {
      const { tablesOf, owner, revoke } = command.opts<GrantFlags>();
      if (tablesOf !== undefined && (owner === true || revoke === true))
        command.error("error: --tables-of goes with neither --owner nor --revoke");
    })
    .action(async (role: string, flags: GrantFlags, command: Command) => {
      const { owner = false, revoke = false, tablesOf } = flags;
      await withOwner(command, async (client) => {
        const what = owner
          ? "watch its tables"
          : tablesOf === undefined
            ? "run the worker"
            : `run the worker on tables of ${visibleInLine(tablesOf)}`;
        if (!revoke) {
          await (owner ? grantOwner(client, role) : grantWorker(client, role, tablesOf));
          print(`${visibleInLine(role)} can now ${what}\n`);
          const leftOut = owner ? [] : await ownersLeftOut(client, role);
          for (const name of leftOut) {
            printError(
              `${visibleInLine(role)} gets no rights on tables of ${visibleInLine(name)}, whose code could use its other rights\n` +
                `  try: embedd trust ${shellWord(name)}  # or give it a worker of its own: embedd grant ROLE --tables-of ${shellWord(name)}\n`,
            );
          }
          if (leftOut.length > 0) process.exitCode = EXIT.no;
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
