import type { Command } from "commander";
import { countWorkers, readStatus } from "../admin/status.sql.js";
import type { PipelineStatus } from "../admin/status.sql.js";
import { withContext } from "./context.js";
import { EXIT } from "./exit.js";
import { counted, printResult } from "./text.js";

export function addStatus(program: Command): void {
  program
    .command("status")
    .description("show pending rows, failures and models of every watched table")
    .option("--json", "print JSON")
    .option("--require-worker", "only check for a connected worker; exit code 3 if there is none")
    .addHelpText("after", "\nExample:\n  embedd status --json | jq '.pipelines[].pending'")
    .action(async (flags: { json?: boolean; requireWorker?: boolean }, command: Command) => {
      await withContext(
        command,
        async ({ pool }) => {
          const workers = await countWorkers(pool);
          if (flags.requireWorker === true) {
            process.stdout.write(`${counted(workers, "worker")}\n`);
            if (workers === 0) process.exitCode = EXIT.no;
            return;
          }
          printResult({ workers, pipelines: await readStatus(pool) }, flags.json, formatStatus);
        },
        { quiet: true },
      );
    });
}

function formatStatus({ workers, pipelines }: { workers: number; pipelines: PipelineStatus[] }): string {
  const lines = [`${counted(workers, "worker")} connected`];
  if (pipelines.length === 0) lines.push("no table is watched: embedd watch --help");
  for (const p of pipelines) {
    lines.push("", `${p.relation}.${p.embedding} (pipeline ${p.pipeline}${p.paused ? ", paused" : ""})`);
    if (p.error !== null) lines.push(`  error     ${p.error}`);
    if (p.gap !== null) lines.push(`  gap       ${p.gap}`);
    const age =
      p.oldestPendingSeconds === null
        ? ""
        : `, the oldest for at most ${Math.ceil(p.oldestPendingSeconds)} s`;
    lines.push(
      `  pending   ${p.pending ?? "?"}${age}`,
      `  in flight ${p.inFlight}`,
      `  failed    ${p.failed} backing off, ${p.dead} dead`,
      `  blank     ${p.blank ?? "?"}`,
    );
    if (p.vectorIndex !== null) lines.push(`  index     ${p.vectorIndex}`);
    if (p.waitReason !== null)
      lines.push(`  waiting   ${p.waitReason}, until ${p.waitUntil?.toISOString() ?? "?"}`);
    if (p.requestsToday > 0) lines.push(`  today     ${spentToday(p)}`);
    const models = Object.entries(p.doneByModel ?? {});
    lines.push(
      `  done      ${p.done ?? "?"}${models.map(([m, n]) => `\n    ${m === "" ? "(no name)" : m}: ${n}`).join("")}`,
    );
    if (p.refreshing) lines.push(`  refresh   re-embedding every row, about ${p.refreshLeft ?? "?"} to go`);
    if (p.stale !== null && p.stale > 0) lines.push(`  stale     ${describeStale(p, p.stale)}`);
  }
  return `${lines.join("\n")}\n`;
}

function spentToday({ requestsToday, tokensToday, usdToday, cutTextsToday }: PipelineStatus): string {
  const price = usdToday > 0 ? `, about $${usdToday.toFixed(usdToday < 0.01 ? 6 : 2)}` : "";
  const cut = cutTextsToday > 0 ? `, ${counted(cutTextsToday, "text")} cut at the model's limit` : "";
  return `${counted(requestsToday, "request")}, ${counted(tokensToday, "token")}${price}${cut}`;
}

function describeStale({ currentModel, reembed }: PipelineStatus, stale: number): string {
  const what = reembed ? "being re-embedded" : "re-embed them with: embedd reembed";
  return `${stale} not from the current model ${currentModel ?? "?"}; ${what}`;
}
