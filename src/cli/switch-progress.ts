import { Presets, SingleBar } from "cli-progress";
import type { SwitchEvent } from "../admin/switch-model/switch-model.js";

/** Shows a switch on standard error: a line a step, and a bar while rows are embedded. */
export function switchReporter(): { onEvent: (event: SwitchEvent) => void; stop: () => void } {
  let bar: SingleBar | null = null;
  let hint = "";

  function stop(): void {
    bar?.stop();
    bar = null;
  }

  function say(line: string): void {
    stop();
    process.stderr.write(`${line}\n`);
  }

  function fill({ running, counts, texts, mostPending }: Extract<SwitchEvent, { step: "fill" }>): void {
    const what =
      missing(running, counts.behind > 0 || counts.pending > mostPending) ||
      (counts.behind === 0 && counts.pending > mostPending
        ? `the swap comes when at most ${mostPending} rows wait for their first vector`
        : "");
    if (what !== hint && what !== "") say(what);
    hint = what;
    if (bar === null) {
      bar = new SingleBar(
        {
          format: "embedding {bar} {percentage}% | {value}/{total} rows | {dead} dead",
          noTTYOutput: true,
          notTTYSchedule: 2_000,
          hideCursor: true,
        },
        Presets.shades_classic,
      );
      bar.start(texts, texts - counts.pending, { dead: counts.dead });
    }
    bar.setTotal(texts);
    bar.update(texts - counts.pending, { dead: counts.dead });
  }

  return {
    stop,
    onEvent(event) {
      const { running } = event;
      switch (event.step) {
        case "begin":
          say(
            `${event.resumed ? "going on with" : "switching"} ${running.relation}.${running.embedding} from ` +
              `${running.fromModel} (${running.fromDimensions}) to ${running.toModel} (${running.toDimensions})`,
          );
          break;
        case "fill":
          fill(event);
          break;
        case "index":
          say(`building the index ${event.index.replaces ?? event.index.name}; writers go on`);
          break;
        case "swap":
          say("swapping");
          break;
      }
    },
  };
}

/** What the person at the terminal has to do, if anything. */
function missing(running: SwitchEvent["running"], rowsWait: boolean): string {
  const { toModel, fromModel, error, served, oldServed, pinned } = running;
  if (error !== null) return `no worker can fill it: ${error}`;
  if (served) return "";
  if (rowsWait)
    return `no worker of ${toModel} is connected; start one beside the others: embedd run, with EMBEDD_PROVIDER set for it`;
  if (oldServed && !pinned)
    return `the worker of ${fromModel} would take the column over: start one of ${toModel}, or stop that one`;
  return "";
}
