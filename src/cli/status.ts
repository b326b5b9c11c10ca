import type { Command } from "commander";
import { tablesWithStrays } from "../admin/inspect.sql.js";
import { isFilling, readNotificationQueue } from "../admin/notification-queue.sql.js";
import type { NotificationQueue } from "../admin/notification-queue.sql.js";
import { watchedAs } from "../admin/pick-pipeline.js";
import { countWorkers, hasProblem, readStatus } from "../admin/status.sql.js";
import type { PipelineStatus, WorkerCounts } from "../admin/status.sql.js";
import type { IndexState } from "../database/build-index.sql.js";
import { foreignLocks } from "../database/turns.sql.js";
import type { ForeignLock } from "../database/turns.sql.js";
import { withContext } from "./context.js";
import { CUT_ADVICE, cutShareText } from "./cut-texts.js";
import { EXIT } from "./exit.js";
import {
  counted,
  describeForeignLock,
  describeQueue,
  printResult,
  problemLines,
  strayTable,
} from "./text.js";
import { print } from "./print.js";

interface StatusFlags {
  table?: string;
  json?: boolean;
  requireWorker?: boolean;
}

export function addStatus(program: Command): void {
  program
    .command("status")
    .description(
      "show pending rows, failures and models of every watched table; exit code 3 if rows failed or a table is not served",
    )
    .option("--table <name>", "only this table; counts no other")
    .option("--json", "print JSON")
    .option(
      "--require-worker",
      "only check for a connected worker; exit code 3 if there is none or all are frozen",
    )
    .addHelpText("after", "\nExample:\n  embedd status --json | jq '.pipelines[].pending'")
    .action(async (flags: StatusFlags, command: Command) => {
      await withContext(command, async ({ pool, hintFor }) => {
        const workers = await countWorkers(pool);
        if (flags.requireWorker === true) {
          print(`${workersLine(workers)}\n`);
          if ((workers?.live ?? 0) === 0) process.exitCode = EXIT.no;
          return;
        }
        const ids = flags.table === undefined ? null : await watchedAs(pool, flags.table);
        const pipelines = await readStatus(pool, ids);
        const strayTables = ids === null ? await tablesWithStrays(pool) : [];
        const strangers = await foreignLocks(pool);
        const notificationQueue = await readNotificationQueue(pool);
        printResult(
          {
            workers: workers?.live ?? null,
            frozenWorkers: workers?.frozen ?? null,
            foreignLocks: strangers,
            notificationQueue,
            pipelines,
            strayTables,
          },
          flags.json,
          (status) => formatStatus(status, workers, { named: flags.table !== undefined, hintFor }),
        );
        if (pipelines.some(hasProblem) || strayTables.length > 0) process.exitCode = EXIT.no;
      });
    });
}

/** @param connected what to write after the number */
function workersLine(workers: WorkerCounts | null, connected = ""): string {
  if (workers === null) return "workers unknown: this server is a standby; ask the primary";
  const { live, frozen } = workers;
  return `${counted(live, "worker")}${frozen === 0 ? "" : `, ${frozen} more frozen`}${connected}`;
}

const INDEX_HINT: Partial<Record<IndexState, string>> = {
  failed: "; build it again with: embedd run --once, as the table's owner",
};

/** Every database has embedd.chunks. While nothing has ever used it, it is not worth a line. */
const isUnusedChunks = ({
  relation,
  pending,
  done,
  blank,
  inFlight,
  failed,
  dead,
  error,
  paused,
}: PipelineStatus): boolean =>
  relation === CHUNKS &&
  error === null &&
  !paused &&
  [pending, done, blank, inFlight ?? 0, failed, dead].every((count) => count === 0);

const CHUNKS = "embedd.chunks";

interface Status {
  foreignLocks: ForeignLock[];
  notificationQueue: NotificationQueue;
  pipelines: PipelineStatus[];
  /** Tables with triggers of embedd and no pipeline. */
  strayTables: string[];
}

function formatStatus(
  { foreignLocks, notificationQueue, pipelines, strayTables }: Status,
  workers: WorkerCounts | null,
  { named, hintFor }: { named: boolean; hintFor: (hint: string) => string },
): string {
  const lines = [workersLine(workers, " connected"), ...foreignLocks.map(describeForeignLock)];
  if (isFilling(notificationQueue)) lines.push(describeQueue(notificationQueue));
  const shown = pipelines.filter((p) => named || !isUnusedChunks(p));
  if (shown.length === 0) lines.push("no table is watched: embedd watch --help");
  for (const p of shown) {
    const whose = p.relation === CHUNKS ? ", a table that comes with embedd" : "";
    lines.push(
      "",
      `${p.relation}.${p.embedding} (pipeline ${p.pipeline}${whose}${p.paused ? ", paused" : ""})`,
    );
    if (p.error !== null) lines.push(`  error     ${problemLines(p.error, " ".repeat(12), hintFor)}`);
    if (p.gap !== null) lines.push(`  gap       ${p.gap}`);
    const age =
      p.oldestPendingSeconds === null
        ? ""
        : `, the oldest for at most ${Math.ceil(p.oldestPendingSeconds)} s`;
    if (!p.mayCount) {
      const why =
        p.codeRisk === null ? "no rights to count" : problemLines(p.codeRisk, " ".repeat(12), hintFor);
      lines.push(`  counts    ${why}`);
      continue;
    }
    lines.push(
      `  pending   ${p.pending ?? "?"}${age}`,
      `  in flight ${p.inFlight ?? "?"}`,
      `  failed    ${p.failed} backing off, ${p.dead} dead`,
      `  blank     ${p.blank ?? "?"}`,
    );
    if (p.vectorIndex !== null) lines.push(`  index     ${p.vectorIndex}${INDEX_HINT[p.vectorIndex] ?? ""}`);
    if (p.waitReason !== null)
      lines.push(`  waiting   ${p.waitReason}, until ${p.waitUntil?.toISOString() ?? "?"}`);
    if (p.requestsToday + p.tokensToday > 0) lines.push(`  today     ${spentToday(p)}`);
    if (p.cutTextsToday > 0) lines.push(`  cut       ${describeCut(p)}`);
    const models = Object.entries(p.doneByModel ?? {});
    lines.push(
      `  done      ${p.done ?? "?"}${models.map(([m, n]) => `\n    ${m === "" ? "(no name)" : m}: ${n}`).join("")}`,
    );
    if (p.refreshing) lines.push(`  refresh   re-embedding every row, about ${p.refreshLeft ?? "?"} to go`);
    if (p.stale !== null && p.stale > 0) lines.push(`  stale     ${describeStale(p, p.stale)}`);
  }
  for (const table of strayTables) lines.push("", strayTable(table));
  return `${lines.join("\n")}\n`;
}

function spentToday({ requestsToday, tokensToday, usdToday, cutTextsToday }: PipelineStatus): string {
  const price = usdToday > 0 ? `, about $${usdToday.toFixed(usdToday < 0.01 ? 6 : 2)}` : "";
  const requests = requestsToday > 0 ? `${counted(requestsToday, "request")}, ` : "";
  const cut = cutTextsToday > 0 ? `, ${counted(cutTextsToday, "text")} cut at the model's limit` : "";
  return `${requests}${counted(tokensToday, "token")}${price}${cut}`;
}

function describeCut({ cutTextsToday, textsToday }: PipelineStatus): string {
  return `${cutShareText(cutTextsToday, textsToday)} of today's texts; ${CUT_ADVICE}`;
}

function describeStale({ currentModel, reembed }: PipelineStatus, stale: number): string {
  const what = reembed ? "being re-embedded" : "re-embed them with: embedd reembed";
  return `${stale} not from the current model ${currentModel ?? "?"}; ${what}`;
}
