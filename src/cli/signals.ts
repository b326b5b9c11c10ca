import { EXIT } from "./exit.js";

/** Calls `stop` on the first SIGINT or SIGTERM. A second one ends the process at once. */
export function onStopSignal(stop: (signal: NodeJS.Signals) => void): void {
  let stopping = false;
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (stopping) process.exit(EXIT.fault);
      stopping = true;
      stop(name);
    });
  }
}
