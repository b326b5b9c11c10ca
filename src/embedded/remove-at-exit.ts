import { rmSync } from "node:fs";
import { rm } from "node:fs/promises";

const paths = new Set<string>();

/** The last first: the password file before the claim that keeps other processes away from it. */
function removeAll(): void {
  for (const path of [...paths].reverse()) {
    try {
      rmSync(path, { recursive: true, force: true });
    } catch {
      // It holds nothing that another process would trust.
    }
  }
}

/**
 * Removes a file or folder also if the process ends before its server has stopped, as at a command's deadline or a second
 * signal. The thread with the database then ends too, long before another process could have opened the directory.
 * @returns a function that removes it now
 */
export function removeAtExit(path: string): () => Promise<void> {
  if (paths.size === 0) process.on("exit", removeAll);
  paths.add(path);
  return async () => {
    await rm(path, { recursive: true, force: true });
    paths.delete(path);
    if (paths.size === 0) process.off("exit", removeAll);
  };
}
