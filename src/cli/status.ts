import type { Command } from "commander";
import { countWorkers, readStatus } from "../admin/status.sql.js";
import type { PipelineStatus } from "../admin/status.sql.js";
import { withContext } from "./context.js";
import { EXIT } from "./exit.js";

export function addStatus(program: Command): void {
  program
    .command("status")
    .description("the backlog, the failures and the models of every watched table")
    .option("--json", "for scripts")
    .option("--require-worker", "only look for a connected worker; exit code 3 if there is none")
    .addHelpText("after", "\nExample:\n  embedd status --json | jq '.pipelines[].pending'")
    .action(async (flags: { json?: boolean; requireWorker?: boolean }, command: Command) => {
      await withContext(
        command,
        async ({ pool }) => {
          const workers = await countWorkers(pool);
          if (flags.requireWorker === true) {
            process.stdout.write(`${workers} ${workers === 1 ? "worker" : "workers"}\n`);
            if (workers === 0) process.exitCode = EXIT.no;
            return;
          }
          const pipelines = await readStatus(pool);
          process.stdout.write(
            flags.json === true
              ? `${JSON.stringify({ workers, pipelines }, null, 2)}\n`
              : formatStatus(workers, pipelines),
          );
        },
        { quiet: true },
      );
    });
}

/** A few lines a pipeline, for people. */
export function formatStatus(workers: number, pipelines: readonly PipelineStatus[]): string {
  const lines = [`${workers} ${workers === 1 ? "worker" : "workers"} connected`];
  if (pipelines.length === 0) lines.push("nothing is watched; embedd watch --help");
  for (const p of pipelines) {
    lines.push("", `${p.relation}.${p.embedding} (pipeline ${p.pipeline}${p.paused ? ", paused" : ""})`);
    if (p.error !== null) lines.push(`  error     ${p.error}`);
    const age =
      p.oldestPendingSeconds === null
        ? ""
        : `, the oldest for at most ${Math.ceil(p.oldestPendingSeconds)} s`;
    lines.push(
      `  pending   ${p.pending ?? "?"}${age}`,
      `  in flight ${p.inFlight}`,
      `  failed    ${p.failed} to be tried again, ${p.dead} dead`,
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
    if (p.stale !== null && p.stale > 0)
      lines.push(
        `  stale     ${p.stale} of another model than ${p.currentModel ?? "?"}${p.reembed ? ", being embedded again" : ": embedd reembed"}`,
      );
  }
  return `${lines.join("\n")}\n`;
}

function spentToday({ requestsToday, tokensToday, usdToday, cutTextsToday }: PipelineStatus): string {
  const price = usdToday > 0 ? `, about $${usdToday.toFixed(usdToday < 0.01 ? 6 : 2)}` : "";
  const cut = cutTextsToday > 0 ? `, ${cutTextsToday} texts cut to what the model reads` : "";
  return `${requestsToday} requests, ${tokensToday} tokens${price}${cut}`;
}
