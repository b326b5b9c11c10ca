import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

const mount = (...args: string[]): void => {
  execFileSync("mount", args, { stdio: "ignore" });
};

function newFolder(): string {
  return mkdtempSync(join(tmpdir(), "embedd-test-"));
}

/** Why no file system can be mounted here, for the name of a test that is skipped; "" if one can. */
export const NO_MOUNT = ((): string => {
  const folder = newFolder();
  try {
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", folder);
    execFileSync("umount", [folder]);
    return "";
  } catch {
    return " [needs the right to mount a file system]";
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
})();

function unmountAfter(folder: string): void {
  onTestFinished(() => {
    execFileSync("umount", ["--lazy", folder]);
  });
}

/** A disk of a few megabytes, until the test ends. @returns where it is mounted */
export function smallDisk(megabytes: number): string {
  const folder = newFolder();
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  mount("-t", "tmpfs", "-o", `size=${megabytes}m`, "tmpfs", folder);
  unmountAfter(folder);
  return folder;
}

/** Makes an existing folder read-only until the test ends. */
export function makeReadOnly(folder: string): void {
  mount("--bind", folder, folder);
  unmountAfter(folder);
  mount("-o", "remount,bind,ro", folder);
}
