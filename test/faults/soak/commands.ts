import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Violation } from "../checker.js";

const embeddCli = fileURLToPath(new URL("../../../dist/cli/main.js", import.meta.url));

export interface CommandOptions {
  url: string;
  /** Until the command must have succeeded. */
  timeoutMs: number;
  /** Ends the command. */
  signal: AbortSignal;
}

/**
 * Runs a command of `embedd`, again whenever a fault ended it, until it succeeds. The commands promise that this
 * resumes them.
 * @returns how often it ran
 * @throws Violation that has the command's last output
 */
export async function runUntilDone(
  args: readonly string[],
  { url, timeoutMs, signal }: CommandOptions,
): Promise<number> {
  const deadline = performance.now() + timeoutMs;
  for (let runs = 1; ; runs++) {
    const late = AbortSignal.timeout(Math.max(1, Math.ceil(deadline - performance.now())));
    const { code, output } = await run(args, url, AbortSignal.any([signal, late]));
    if (code === 0 || signal.aborted) return runs;
    if (performance.now() >= deadline)
      throw new Violation(
        `embedd ${args.join(" ")} did not succeed in ${timeoutMs} ms, ${runs} runs: ${output}`,
      );
    await sleep(500);
  }
}

function run(
  args: readonly string[],
  url: string,
  signal: AbortSignal,
): Promise<{ code: number | null; output: string }> {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([key]) => !/^(DATABASE_URL|EMBEDD_|VITEST|NODE_OPTIONS)/.test(key)),
  );
  const child = spawn(process.execPath, [embeddCli, ...args], {
    env: { ...env, DATABASE_URL: url },
    stdio: ["ignore", "pipe", "pipe"],
    signal,
    killSignal: "SIGKILL",
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (output = (output + text).slice(-4_000)));
  // The signal ends it with an error.
  child.on("error", () => undefined);
  return new Promise((resolve) => {
    child.once("close", (code) => {
      resolve({ code, output });
    });
  });
}
