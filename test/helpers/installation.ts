import { cp, mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** A copy of the built package with its own `node_modules`, for tests that damage an installation. */
export interface Installation {
  directory: string;
  /** The command's main file. */
  main: string;
  /** Path of a file inside the installation. */
  file(...parts: string[]): string;
}

/**
 * Installs the built package in a temporary folder until the test ends. Its dependencies are symbolic links, except
 * those in `own`: of these, every folder is a folder of this installation, so that files can be replaced.
 */
async function install(own: readonly string[]): Promise<Installation> {
  const directory = await mkdtemp(join(tmpdir(), "embedd-install-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  const file = (...parts: string[]): string => join(directory, ...parts);
  for (const part of ["package.json", "migrations", "dist"]) {
    await cp(join(root, part), file(part), { recursive: true });
  }
  const modules = join(root, "node_modules");
  await mkdir(file("node_modules"));
  for (const name of await readdir(modules)) {
    if (!own.includes(name)) await symlink(join(modules, name), file("node_modules", name));
  }
  for (const name of own) await linkFiles(join(modules, name), file("node_modules", name));
  return { directory, main: file("dist", "cli", "main.js"), file };
}

/** Larger files are linked: no script, and no library that looks for its neighbors, is that large. */
const COPIED_BYTES = 1_000_000;

/** Copies most files, since Node and the dynamic linker look for the neighbors of a link's target. */
async function linkFiles(from: string, to: string): Promise<void> {
  for (const entry of await readdir(from, { recursive: true, withFileTypes: true })) {
    if (entry.isDirectory()) continue;
    const source = join(entry.parentPath, entry.name);
    const target = join(to, source.slice(from.length));
    await mkdir(dirname(target), { recursive: true });
    if ((await stat(source)).size < COPIED_BYTES) await cp(source, target);
    else await symlink(source, target);
  }
}

/** The libraries of `onnxruntime-node` for this system, below `node_modules`. */
export const INFERENCE_LIBRARIES = ["onnxruntime-node", "bin", "napi-v6", process.platform, process.arch];
export const INFERENCE_BINDING = [...INFERENCE_LIBRARIES, "onnxruntime_binding.node"];

/** An installation in which a file of a dependency is missing (null), or has this content. */
export async function damaged(file: readonly string[], content: string | null): Promise<Installation> {
  const installation = await install(file.slice(0, 1));
  const path = installation.file("node_modules", ...file);
  await rm(path);
  if (content !== null) await writeFile(path, content);
  return installation;
}
