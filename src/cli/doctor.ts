import type { Command } from "commander";
import { EmbeddError, messageOf } from "../errors.js";
import { dimensionMisfit } from "../worker/dimension-misfit.js";
import type { Provider } from "../providers/provider.js";
import { createProvider } from "../providers/create-provider.js";
import { defaultThreads } from "../providers/local/threads.js";
import { inspectPipelines, inspectServer, tablesWithStrays } from "../admin/inspect.sql.js";
import { isFilling, readNotificationQueue } from "../admin/notification-queue.sql.js";
import type { NotificationQueue } from "../admin/notification-queue.sql.js";
import { followNames, loadPipelines } from "../database/load-pipelines.sql.js";
import { withOwnerClient } from "../database/pool.js";
import { findReadOnly } from "../database/read-only.sql.js";
import { WORKER_ROLE_HINT, describeSuperuser, superuserName } from "../database/superuser.sql.js";
import { foreignLocks } from "../database/turns.sql.js";
import type { ForeignLock } from "../database/turns.sql.js";
import { shellWord } from "../shell-word.js";
import { visibleInLine } from "../visible.js";
import { countWorkers, cutToday } from "../admin/status.sql.js";
import type { WorkerCounts } from "../admin/status.sql.js";
import type { Context } from "./context.js";
import { withContext } from "./context.js";
import { checkCutTexts, checkPipeline } from "./doctor-pipeline.js";
import type { Finding } from "./doctor-pipeline.js";
import { checkConnection, checkServer } from "./doctor-server.js";
import { EXIT } from "./exit.js";
import { stopSignal } from "./signals.js";
import { describeForeignLock, describeQueue, strayTable } from "./text.js";
import { print } from "./print.js";

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description("check everything embedd needs and print a fix for each problem; exit code 3 on any FAIL")
    .addHelpText("after", "\nExample:\n  embedd doctor")
    .action(async (_flags: object, command: Command) => {
      await withContext(command, async (context) => {
        let failed = false;
        for await (const finding of diagnose(context)) {
          failed ||= finding.state === "FAIL";
          const fix = finding.try === undefined ? "" : `\n      try: ${context.hintFor(finding.try)}`;
          print(`${finding.state.padEnd(4)}  ${visibleInLine(finding.what)}${fix}\n`);
        }
        if (failed) process.exitCode = EXIT.no;
      });
    });
}

async function* diagnose({ databaseUrl, config }: Context): AsyncGenerator<Finding> {
  const model = await checkModel(config);
  yield model.finding;
  if (config.provider === "local") yield threadsFinding(config.threads);
  const connection = await checkConnection(databaseUrl);
  if (connection.finding !== null) yield connection.finding;
  if (!connection.usable) return;
  const findings = await withOwnerClient(
    databaseUrl,
    async (client) => {
      const server = await inspectServer(client);
      const found = checkServer(server);
      const readOnly = await findReadOnly(client, databaseUrl);
      if (readOnly !== null) found.push({ state: "FAIL", what: readOnly.message, try: readOnly.hint });
      if (!server.migrated || server.missingPrivileges.length > 0) return found;
      const superuser = await superuserName(client);
      if (superuser !== null)
        found.push({ state: "warn", what: describeSuperuser(superuser), try: WORKER_ROLE_HINT });
      if (readOnly === null) await followNames(client);
      const { pipelines, broken } = await loadPipelines(client);
      for (const pipeline of await inspectPipelines(client)) {
        const loaded = pipelines.find(({ id }) => id === pipeline.id);
        const misfit =
          model.provider !== null && loaded !== undefined && loaded.model === null && !loaded.unused
            ? dimensionMisfit(loaded, model.provider)
            : null;
        const reason = broken.find(({ id }) => id === pipeline.id)?.reason ?? null;
        found.push(...checkPipeline(pipeline, server.role, reason, misfit));
      }
      for (const table of await tablesWithStrays(client)) {
        const word = shellWord(table);
        found.push({
          state: "warn",
          what: strayTable(table),
          try: `embedd unwatch ${word}  # or: embedd watch ${word} --content body`,
        });
      }
      found.push(...checkCutTexts(await cutToday(client)));
      found.push(...checkWorkers(await countWorkers(client)));
      found.push(...(await foreignLocks(client)).map(foreignLockFinding));
      const queue = await readNotificationQueue(client);
      if (isFilling(queue)) found.push(queueFinding(queue));
      return found;
    },
    stopSignal,
  );
  yield* findings;
}

async function checkModel(
  config: Context["config"],
): Promise<{ finding: Finding; provider: Provider | null }> {
  try {
    const provider = await createProvider(config);
    try {
      await provider.embed(["doctor"]);
      const how =
        config.provider !== "local"
          ? `${config.provider} accepted the key and address`
          : config.modelPath === undefined
            ? "checksum matches"
            : "it embeds a text";
      const what = `model ${provider.model}: ${how}; vectors have ${provider.dimensions} dimensions`;
      return { finding: { state: "ok", what }, provider };
    } finally {
      await provider.close();
    }
  } catch (error) {
    const fix = error instanceof EmbeddError ? error.hint : undefined;
    return {
      finding: {
        state: "FAIL",
        what: `model: ${messageOf(error)}`,
        ...(fix !== undefined && { try: fix }),
      },
      provider: null,
    };
  }
}

function threadsFinding(setting: number | undefined): Finding {
  const { threads, reason } = defaultThreads();
  if (setting === undefined) return { state: "ok", what: `inference threads: ${threads} (${reason})` };
  const what = `inference threads: ${setting} (EMBEDD_THREADS)`;
  if (setting <= threads) return { state: "ok", what };
  return {
    state: "warn",
    what: `${what}; ${threads} would be faster: ${reason}`,
    try: "unset EMBEDD_THREADS",
  };
}

/** On a standby nothing is known, and another finding says that it is one. */
export function checkWorkers(workers: WorkerCounts | null): Finding[] {
  if (workers === null) return [];
  const { live, frozen, deaf } = workers;
  const found: Finding[] = [
    live > 0
      ? { state: "ok", what: `workers connected: ${live}` }
      : { state: "warn", what: "no worker is connected", try: "embedd run" },
  ];
  const look = "SELECT * FROM embedd.workers;";
  if (frozen > 0) {
    found.push({
      state: "warn",
      what: `workers connected but silent for 15 s or longer: ${frozen}`,
      try: look,
    });
  }
  if (deaf > 0) {
    const what = `workers that no notification has reached for a minute, so they find rows by polling: ${deaf}`;
    found.push({ state: "warn", what, try: look });
  }
  return found;
}

function foreignLockFinding(lock: ForeignLock): Finding {
  const end =
    lock.pid === null ? "SELECT * FROM pg_prepared_xacts;" : `SELECT pg_terminate_backend(${lock.pid});`;
  return { state: "warn", what: describeForeignLock(lock), try: end };
}

function queueFinding(queue: NotificationQueue): Finding {
  const look =
    queue.holder === null
      ? "SELECT pid, usename, datname, xact_start FROM pg_stat_activity ORDER BY xact_start;  -- as a superuser"
      : `SELECT pg_terminate_backend(${queue.holder.pid});`;
  return { state: "warn", what: describeQueue(queue), try: look };
}
