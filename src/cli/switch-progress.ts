import type { SingleBar } from "cli-progress";
import type { Switch, SwitchEvent, SwitchListener } from "../admin/switch-model/switch.js";
import { createBar } from "./progress.js";
import { printError } from "./print.js";

/** Shows a switch on standard error: one line per step, and a bar while rows are embedded. */
export function switchReporter(): { onEvent: SwitchListener; stop: () => void } {
  let bar: SingleBar | null = null;
  let shown = "";

  function stop(): void {
    bar?.stop();
    bar = null;
  }

  function say(line: string): void {
    stop();
    printError(`${line}\n`);
  }

  function fill(event: Extract<SwitchEvent, { step: "fill" }>): void {
    const { counts, texts } = event;
    const hint = fillHint(event);
    if (hint !== shown && hint !== "") say(hint);
    shown = hint;
    const done = texts - counts.pending;
    if (bar === null) {
      bar = createBar("embedding", "{dead} dead");
      bar.start(texts, done, { dead: counts.dead });
    }
    bar.setTotal(texts);
    bar.update(done, { dead: counts.dead });
  }

  return {
    stop,
    onEvent(event) {
      const { running } = event;
      switch (event.step) {
        case "begin":
          say(
            `${event.resumed ? "resuming the switch of" : "switching"} ${running.relation}.${running.embedding} from ` +
              `${running.fromModel} (${running.fromDimensions}) to ${running.toModel} (${running.toDimensions})`,
          );
          break;
        case "fill":
          fill(event);
          break;
        case "index":
          say(`building the index ${event.index.replaces ?? event.index.name}; writers are not blocked`);
          break;
        case "swap":
          say("swapping the columns");
          break;
      }
    },
  };
}

/** What keeps the new columns from filling up or the swap from starting; empty: nothing. */
function fillHint({ running, counts, mostPending }: Extract<SwitchEvent, { step: "fill" }>): string {
  const tooMany = counts.pending > mostPending;
  const problem = workerHint(running, counts.behind > 0 || tooMany);
  if (problem !== "") return problem;
  return counts.behind === 0 && tooMany ? `the swap starts once at most ${mostPending} rows are pending` : "";
}

/** What the user must do about the workers, if anything. */
function workerHint(running: Switch, hasRows: boolean): string {
  const { toModel, fromModel, error, served, oldServed, pinned } = running;
  if (error !== null) return `no worker can fill the new columns: ${error}`;
  if (served) return "";
  if (hasRows) {
    const start = `start one alongside the old worker: embedd run  # with EMBEDD_PROVIDER set for ${toModel}`;
    return `no worker of ${toModel} is connected; ${start}`;
  }
  if (oldServed && !pinned) {
    return `the worker of ${fromModel} would take over the column: start a worker of ${toModel}, or stop that one`;
  }
  return "";
}
